"""The ledger: which call is permitted, and what was decided. A port, the rules, and two adapters.

`protocol.py` holds the rules (pure), `steps.py` runs them over many rows (pure). `grouped_ledger.py` is the port's one
implementation: `groups.py` gathers its calls, and a `database.py` stores each group. `sqlite/` and `postgres/` are such
databases.
"""
