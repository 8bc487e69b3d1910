"""What was deleted or passed over unread: counted, said, and gone on from by a person's word.

A partition stands still when its group's position lies outside the watermarks: unread records were deleted, or the
topic was made anew and the committed offset lies above its end. Roles stay members and go on with all else
(`standing`). What there is now is found from watermarks and committed offsets (`gaps`). A person's
decision to go on is a fact in `pabal.audit` and then a *seek*, a record of `pabal.ops` that the role hears (`seeks`);
where the group has no members, its committed offset is set at once (`moving`).
"""
