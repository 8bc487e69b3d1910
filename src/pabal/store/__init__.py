"""The store: what happened to each delivery."""
