"""What each medium can carry: addresses, rendering, default order keys. Pure."""
