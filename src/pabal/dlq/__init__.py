"""Dead letters: what needs a person, and the ways back.

Overview. A dead letter is a record of `pabal.dead.<channel>`; its place (`channel/partition/offset`) is its identity.
`letters/` reads letters by offset, without a group, and files each with what was done to it (`marks.py`,
`reading.py`); `deciding.py` corrects and closes letters. `redrive/plan.py` judges each letter: would it be sent again,
and if not why not. `making.py` makes a plan of that, which pins the ends of the dead topics. `run.py` carries a plan
out: a canary, then a rate, until all is done or too many come back (`stepping.py` decides, from `answers.py`).
`book.py` tells from the audit log how redrives stand, and which redrives begun over HTTP have not ended. `host.py` runs
these inside API processes, and goes on with what other processes left. `parts.py` makes all of it from one log.

State. A letter is never changed or removed, and there is no database. Whether it is open follows from facts in
`pabal.audit`: redriven, discarded, resolved, edited, each with its author, reason and time. The same is told of the
delivery in `pabal.events`, so the store and its timelines show it. An edit is a fact too: it corrects what will be
sent, and `show` and `plan` show it before anything is sent.

The way back. A redriven delivery goes to its own channel's and class's topic with the same id, the next attempt, rung
and parks 0; the worker's gate looks at expiry, suppression and cancellation again. First the append is confirmed, then
the letter is marked.

Failure. A crash between append and mark makes the next run append the same attempt again: to the ledger it is a copy of
a record it knows, so nothing is called twice, and nothing is lost because what is not marked is still open. A worker's
crash may write one letter twice: letters about the same attempt of the same delivery are one letter here. One redrive
at a time per tenant and dead topic, by a claim in `pabal.ops` with a lease (`claim.py`, `hold.py`); it spares people
confusion, and nothing depends on it.
"""
