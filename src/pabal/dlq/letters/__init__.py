"""Dead letters as they are read, chosen, corrected and closed. The package above says how they go on."""
