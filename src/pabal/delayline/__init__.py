"""The delay line: holds retried, parked and scheduled deliveries until they are due.

Overview. There is one topic per class and constant delay (a rung); nothing stands in it for longer. Of each partition
the line holds some 2,000 records in memory, on a shelf (`shelf.py`). They leave exactly when they are due, in any
order. Records behind them come in when there is room. A longer wait takes several rungs, a park the one rung that holds
all of it. A record that is due is appended to its channel's and class's topic; then its offset counts.

Early release. A worker says in `pabal.ops` that a callee answers again (`pabal.ops.recoveries`). Deliveries that were
parked for this callee then leave before they are due, in growing steps (`early_release.py`).

Promise. Retries and scheduled deliveries never leave early; they are late by at most the smallest rung plus a poll (a
rest shorter than the smallest rung may stand behind too many other records of that rung), a park by at most its rung.
What falls due within a twentieth of a second leaves together. Otherwise the line releases as fast as it can:
throttling is the worker's.

State. Only the log's: what is held in memory is uncommitted, and a crash reads it again. A record may then be
released twice; the ledger takes the second for a copy.
"""
