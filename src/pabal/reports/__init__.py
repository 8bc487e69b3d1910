"""Reports: figures about what happened, each defined once and computed from the store."""
