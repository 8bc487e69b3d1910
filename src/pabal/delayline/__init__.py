"""The delay line: holds retried, parked and scheduled deliveries until they are due.

Overview. There is one topic per class and constant delay (a rung); nothing stands in it for longer. Of each partition
some 2,000 records are held in memory and leave exactly when they are due, in any order; what stands behind those comes
in when they have left. A longer wait takes several rungs, a park the one rung that holds all of it. A record that is
due is appended to its channel's and class's topic; then its offset counts.

Promise. Retries and what is scheduled never early; late by at most the smallest rung plus a poll (a rest shorter than
the smallest rung may stand behind too many others of that rung), a park by at most its rung. What falls due within a
twentieth of a second leaves together. What is parked for a callee that is back (`hearing.py`) leaves before it is due,
in growing steps (`returning.py`). Otherwise the line releases as fast as it can: throttling is the worker's.

State. Only the log's: what is held in memory is uncommitted, and a crash reads it again. A record may then be
released twice; the ledger takes the second for a copy.
"""
