"""Which topics Pabal needs."""
