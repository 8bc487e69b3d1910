"""The delay line: holds retried, parked and scheduled deliveries until they are due.

Overview. There is one topic per class and constant delay (a rung). Because the delay is constant, the records of a
partition come due in the order they stand in, and waiting for the head is exact. A longer wait takes several rungs.
A record that is due is appended to its channel's and class's topic; then its offset counts.

Promise. Never early; late by at most the smallest rung plus a poll (a rest shorter than the smallest rung stands
behind others of that rung). The line releases as fast as it can: throttling is the worker's.

State. Only the log's: what is held in memory is uncommitted, and a crash reads it again. A record may then be
released twice; the ledger takes the second for a copy.
"""
