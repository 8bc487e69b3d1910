"""The worker: sends the deliveries of its channels.

Overview. For each channel and class there is an *intake* (`intake.py`): a member of the group
`pabal.worker.<channel>.<class>` that polls, decodes and puts records into the channel's lanes, within a window. For
each channel there is a *dispatch* (`dispatch.py`): while there is a free call slot it takes the next delivery by class
weight, tenants in turn, one at a time per order key, and asks the guard (`pabal.guard`). What is refused alone waits in
a line (`lines.py`) or is parked, outside the slots; what is refused whole holds the intakes back. In the slot runs
`Deliverer.call` (`deliver.py`): claim → send → decide → finish, up to a verdict that is stored. The slot is free from
then on; the *end* joins those of the same moment, and `Deliverer.tell` makes them true in batches: append → settle.
What a verdict means in records is pure (`effects.py`). A provider's rate is shared with the other workers by partitions
owned (`rates.py`). Too many unreadable records stop their class for all workers (`class_brakes.py`). `worker.py` puts
these together, commits, prunes and stops.

State. The log says what is to be done, the ledger what may be called and what was decided; the worker itself keeps
nothing that a crash could lose. An item in memory is one record in flight; `Progress` turns the ends of items into
the offset that may be committed, once a second and when a partition is revoked.

Failure. Whatever follows a claim is repeated until it is durable: the ledger and the log are asked again with growing
pauses, and nothing is committed meanwhile. A worker that dies leaves a claim that others take over when its lease
ends. A partition that is revoked while a call is under way is not waited for: the next owner finds the claim held,
or the verdict stored. Records that cannot be decoded go to the dead topic as they are.

Stopping. A worker that is stopped takes nothing more from the log, lets what is in flight end within `drain_seconds`,
commits, leaves the groups. What has not ended by then is uncommitted and comes again.

Why not simply await each record: hundreds of slow calls per process are the normal case, and one slow address must
not hold a partition. Why claims and not commits protect from duplicates: a commit says that records were dealt with,
too late and for a whole prefix; a claim speaks of one call, before it is made.
"""
