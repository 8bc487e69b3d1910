"""Redrives: a plan, its runs, the claim on its letters, and how they stand. The package above says how they go on."""
