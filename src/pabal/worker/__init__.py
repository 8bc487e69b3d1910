"""The worker: sends the deliveries of its channels.

Overview. A worker has a *channel* (`channel.py`) for each medium that it carries: one handle on all its parts, by which
a class is held, a provider is slowed down, or the channel is paused.

* For each class there is an *intake* (`intake.py`). It is a member of the group `pabal.worker.<channel>.<class>`
  (`membership.py`, `partitions.py`): it polls, decodes, and puts records into the channel's lanes, within a window.
* One *dispatch* (`dispatch.py`) fills the call slots. The next item leaves its lane by class weight, tenants in turn,
  one at a time per order key; then the guard (`pabal.guard`) is asked (`waiting.py`). An item that is refused alone
  waits in its callee's queue (`callee_queues.py`) or is parked (`parking.py`), outside the slots. When the whole
  channel is refused, the intakes are held back (`lookout.py`).
* In a slot runs `Deliverer.call` (`deliver.py`): render → claim → send → decide → finish, up to a stored verdict. One
  value, the *errand* (`errand.py`), goes through these steps. `sending.py` makes the call and watches over it.
* The slot is free from then on. The *end* is told in batches (`telling.py`): append → settle → observe. What a verdict
  means in records is pure (`effects.py`). What was done is a *deed* (`deed.py`): it is counted there.

A provider's rate is shared with the other workers by partitions owned (`rates.py`). Too many unreadable records hold
their class for all workers (`class_brakes.py`). `worker.py` puts the channels together, commits, prunes and stops.

State. The log says what is to be done, the ledger says what may be called and what was decided. The worker itself keeps
nothing that a crash could lose. An item in memory is one record in flight; `Progress` turns the ends of items into
the offset that may be committed, once a second and when a partition is revoked.

Failure. Whatever follows a claim is repeated until it is durable: the ledger and the log are asked again with growing
pauses, and nothing is committed meanwhile. A worker that dies leaves a claim, which another worker takes over when its
lease ends. When a partition is revoked, calls under way are not waited for: the next owner finds the claim held, or the
verdict stored. Records that cannot be decoded go to the dead topic as they are.

Holding. A class that is held begins no further call: neither of what is in the log nor of what was read before. Its
records stay where they are, uncommitted, in their order. A delivery that expires meanwhile is told as `expired` when
the class goes on. If the worker stops first, the records come again.

Stopping. A worker that is stopped takes nothing more from the log, lets what is in flight end within `drain_seconds`,
commits, and leaves its groups. What has not ended by then is uncommitted and comes again.

Why not simply await each record: hundreds of slow calls per process are the normal case, and one slow address must
not hold a partition. Why claims and not commits protect from duplicates: a commit says that records were dealt with,
too late and for a whole prefix; a claim speaks of one call, before it is made.
"""
