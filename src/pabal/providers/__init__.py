"""What carries a delivery: a port and its adapters, found by entry points."""
