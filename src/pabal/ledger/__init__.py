"""The ledger: which call is permitted, and what was decided. A port, the rules, and two adapters.

`protocol.py` holds the rules (pure), `steps.py` runs them over many rows (pure), `groups.py` gathers calls into
transactions. `sqlite/` and `postgres/` keep the rows.
"""
