"""The recorder: folds what the log says of deliveries into the store, so that it can be looked up.

Overview. One consumer group over the deliveries topics (what was accepted), the dead topics (what needs a person) and
`pabal.events` (what happened). A poll's worth of records is folded in one transaction; then its offsets count. Nothing
else in Pabal writes the store, and nothing that sends reads it: a recorder that is down or behind delays what can be
seen, and nothing that is sent.

State. None but the group's offsets. The fold is commutative and idempotent (`pabal.store.projection`), so records may
come twice, late, and in any order over topics, partitions and recorders; a crash between transaction and commit reads
about a second's worth again.

Failure. The recorder waits for a store that does not answer: it stays a member of its group and goes on by itself.
A record that can be neither decoded nor folded is found by halving the batch. It is set aside in the store with the
reason and its first bytes; `pabal recorder rebuild` tries it again. An unreadable record of a dead topic is recorded as
a dead letter without a delivery. When most records of a partition cannot be folded, the partition is held
(`holding.py`, `held_records.py`): that looks like a defect, perhaps of ours, and nothing is committed past it. Unread
records that retention deleted end the role: `pabal recorder rebuild` reads what there is, and lets the group go on from
there.

Upkeep (`upkeep.py`). Now and then the recorder looks for *unaccounted* deliveries: their time is over, and no record
says how they ended. That is an alarm, because it would be a loss. And it forgets deliveries that ended long ago.
"""
