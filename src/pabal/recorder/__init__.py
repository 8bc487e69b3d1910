"""The recorder: folds what the log says of deliveries into the store, so that it can be looked up.

Overview. One consumer group over the deliveries topics (what was accepted), the dead topics (what needs a person) and
`pabal.events` (what happened). A poll's worth of records is folded in one transaction; then its offsets count. Nothing
else in Pabal writes the store, and nothing that sends reads it: a recorder that is down or behind delays what can be
seen, and nothing that is sent.

State. None but the group's offsets. The fold is commutative and idempotent (`pabal.store.projection`), so records may
come twice, late, and in any order over topics, partitions and recorders; a crash between transaction and commit reads
about a second's worth again.

Failure. A store that does not answer is waited for: the recorder stays a member of its group and goes on by itself.
A record that can be neither decoded nor folded is found by halving the batch, and set aside in the store with the
reason and its start; `pabal recorder rebuild` tries it again. On a dead topic what cannot be read is recorded as a dead
letter without a delivery. Where most of what a partition brings cannot be folded, the partition is held (`holding.py`):
that looks like a defect, perhaps of ours, and is not committed past. Unread records that retention deleted end the
role: `pabal recorder rebuild` reads what there is, and lets the group go on from there.

Upkeep. Now and then it looks for deliveries whose time is over and of which no record says how they ended
(*unaccounted*: an alarm, it would be a loss), and forgets those that ended long ago.
"""
