"""Consumer groups in the embedded log: members, leases, who owns what, what is committed.

Every function is an operation of one write transaction, so that all members see changes in one order.

A group's partitions each have a *target*, the member that should own them, and an *owner*. Members change → targets
are computed anew (`_sharing`) and the group's generation goes up. A member that sees a new generation settles:
it releases what it owns and should not (after committing where it got to), and takes what it should own and nobody
does (cooperative handover, as in KIP-848). Each taking raises the partition's *epoch*; a commit names its epoch,
so no member commits for a partition that it has lost.

A member lives as long as its lease, which ends on the machine's boot-time clock, or with the boot.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from pabal.broker.port import Watermarks
from pabal.broker.sqlite.sharing import share_partitions
from pabal.broker.sqlite.storage import WriteTransaction
from pabal.errors import LogError, UnknownTopic


class Share(NamedTuple):
    """A partition that a member owns."""

    partition: int
    epoch: int
    start: int
    """The committed offset, else the low watermark."""
    watermarks: Watermarks
    is_target: bool
    """Whether the member should go on owning it."""


class Settled(NamedTuple):
    """What a member owns as of a generation."""

    member: int
    generation: int
    shares: Sequence[Share]


class Heartbeat(NamedTuple):
    """What a process learns when it renews its members' leases."""

    fenced: frozenset[int]
    """The renewed members that are members no more."""
    next_end_seconds: float | None
    """Until the first lease of another process's member ends."""


def join(
    transaction: WriteTransaction,
    *,
    group: str,
    topics: Sequence[str],
    instance: str | None,
    process: str,
    lease_seconds: float,
    is_back: bool,
) -> Settled:
    """Make a new member; with `instance`, in the place of the former of that name, which is fenced.

    A member that `is_back` was fenced itself. It replaces no other: two of one name would do so for ever.
    """
    for topic in topics:
        if not transaction.select("SELECT 1 FROM topics WHERE name = ?", topic):
            raise UnknownTopic(topic)
    evict_expired(transaction)
    member = transaction.insert(
        "INSERT INTO members (group_name, instance, topics, process, boot_id, lease_ends) VALUES (?, ?, ?, ?, ?, ?)",
        group,
        instance,
        msgspec.json.encode(topics).decode(),
        process,
        transaction.clock.boot_id,
        transaction.clock.boot_seconds() + lease_seconds,
    )
    if instance is not None:
        if is_back and _is_running(transaction, group=group, instance=instance, other_than=member):
            raise LogError(f"another member of group {group!r} runs as {instance!r}; this one was fenced by it")
        _replace(transaction, group=group, instance=instance, member=member)
    _retarget(transaction, group)
    settled = settle(transaction, member=member, group=group, release={}, lease_seconds=lease_seconds)
    assert settled is not None
    return settled


def settle(
    transaction: WriteTransaction,
    *,
    member: int,
    group: str,
    release: Mapping[int, int | None],
    lease_seconds: float,
) -> Settled | None:
    """Release partitions, each with the offset to commit first if there is one; take what is free and due.

    None: it is no member any more.
    """
    if not _renew(transaction, member, lease_seconds):
        return None
    for partition, offset in release.items():
        transaction.change(
            "UPDATE progress SET owner = NULL, committed = coalesce(?, committed)"
            " WHERE group_name = ? AND partition = ? AND owner = ?",
            offset,
            group,
            partition,
            member,
        )
    transaction.change(
        "UPDATE progress SET owner = target, epoch = epoch + 1 WHERE group_name = ? AND target = ? AND owner IS NULL",
        group,
        member,
    )
    if release:
        _bump_generation(transaction, group)
    [(generation,)] = transaction.select("SELECT generation FROM consumer_groups WHERE name = ?", group)
    shares = transaction.select(
        "SELECT partition, epoch, coalesce(committed, low), low, high, target IS owner"
        " FROM progress JOIN partitions ON id = partition WHERE group_name = ? AND owner = ?",
        group,
        member,
    )
    return Settled(
        member,
        generation,
        [
            Share(partition, epoch, start, Watermarks(low, high), bool(is_target))
            for partition, epoch, start, low, high, is_target in shares
        ],
    )


def leave(transaction: WriteTransaction, *, member: int, group: str, release: Mapping[int, int | None]) -> None:
    """End a membership; what it owned is free at once."""
    for partition, offset in release.items():
        transaction.change(
            "UPDATE progress SET committed = coalesce(?, committed)"
            " WHERE group_name = ? AND partition = ? AND owner = ?",
            offset,
            group,
            partition,
            member,
        )
    _evict(transaction, [(member, group)])


def commit(
    transaction: WriteTransaction, *, member: int, group: str, offsets: Mapping[int, tuple[int, int]]
) -> list[int]:
    """Commit offsets (partition: epoch, offset); the partitions that are not this member's any more."""
    return [
        partition
        for partition, (epoch, offset) in offsets.items()
        if not transaction.change(
            "UPDATE progress SET committed = ? WHERE group_name = ? AND partition = ? AND owner = ? AND epoch = ?",
            offset,
            group,
            partition,
            member,
            epoch,
        )
    ]


def beat(transaction: WriteTransaction, *, leases: Mapping[int, float], process: str) -> Heartbeat:
    """Renew the leases of a process's members (seconds from now), and evict members whose lease has ended."""
    fenced = [member for member, seconds in leases.items() if not _renew(transaction, member, seconds)]
    evict_expired(transaction)
    [(first_end,)] = transaction.select("SELECT min(lease_ends) FROM members WHERE process <> ?", process)
    now = transaction.clock.boot_seconds()
    return Heartbeat(frozenset(fenced), None if first_end is None else max(0.0, first_end - now))


def evict_expired(transaction: WriteTransaction) -> None:
    """End the memberships whose lease has ended, here or with another boot."""
    _evict(
        transaction,
        transaction.select(
            "SELECT id, group_name FROM members WHERE boot_id <> ? OR lease_ends <= ?",
            transaction.clock.boot_id,
            transaction.clock.boot_seconds(),
        ),
    )


def evict_process(transaction: WriteTransaction, *, process: str) -> None:
    """End the memberships of a process that is known to be dead."""
    _evict(transaction, transaction.select("SELECT id, group_name FROM members WHERE process = ?", process))


def reset_offsets(transaction: WriteTransaction, *, group: str, offsets: Mapping[int, int]) -> None:
    """Set committed offsets of a group that has no members."""
    evict_expired(transaction)
    if transaction.select("SELECT 1 FROM members WHERE group_name = ?", group):
        raise LogError(f"group {group!r} has members; stop them before setting its offsets")
    transaction.change_many(
        "INSERT INTO progress (group_name, partition, committed) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET committed = excluded.committed",
        [(group, partition, offset) for partition, offset in offsets.items()],
    )


def retarget_subscribers(transaction: WriteTransaction, topic: str) -> None:
    """Share out the partitions of a topic that has grown."""
    for (group,) in transaction.select(
        "SELECT DISTINCT group_name FROM members, json_each(topics) WHERE value = ?", topic
    ):
        _retarget(transaction, group)


def _renew(transaction: WriteTransaction, member: int, lease_seconds: float) -> bool:
    return bool(
        transaction.change(
            "UPDATE members SET boot_id = ?, lease_ends = ? WHERE id = ?",
            transaction.clock.boot_id,
            transaction.clock.boot_seconds() + lease_seconds,
            member,
        )
    )


def _is_running(transaction: WriteTransaction, *, group: str, instance: str, other_than: int) -> bool:
    return bool(
        transaction.select(
            "SELECT 1 FROM members WHERE group_name = ? AND instance = ? AND id <> ?", group, instance, other_than
        )
    )


def _replace(transaction: WriteTransaction, *, group: str, instance: str, member: int) -> None:
    """Hand everything of the former member of that instance to the new one."""
    for (former,) in transaction.select(
        "SELECT id FROM members WHERE group_name = ? AND instance = ? AND id <> ?", group, instance, member
    ):
        transaction.change("DELETE FROM members WHERE id = ?", former)
        transaction.change("UPDATE progress SET target = ? WHERE group_name = ? AND target = ?", member, group, former)
        transaction.change(
            "UPDATE progress SET owner = ?, epoch = epoch + 1 WHERE group_name = ? AND owner = ?",
            member,
            group,
            former,
        )


def _evict(transaction: WriteTransaction, members: Collection[tuple[int, str]]) -> None:
    for member, group in members:
        transaction.change("DELETE FROM members WHERE id = ?", member)
        transaction.change("UPDATE progress SET owner = NULL WHERE group_name = ? AND owner = ?", group, member)
    for group in {group for _, group in members}:
        _retarget(transaction, group)


def _retarget(transaction: WriteTransaction, group: str) -> None:
    """Compute anew who should own what, and have the members look."""
    members = {
        member: set(msgspec.json.decode(topics, type=list[str]))
        for member, topics in transaction.select(
            "SELECT id, topics FROM members WHERE group_name = ? ORDER BY id", group
        )
    }
    subscribed = set().union(*members.values())
    partitions = dict(
        transaction.select(
            "SELECT id, topic FROM partitions WHERE topic IN (SELECT value FROM json_each(?)) ORDER BY topic, number",
            msgspec.json.encode(sorted(subscribed)).decode(),
        )
    )
    current = dict(
        transaction.select("SELECT partition, target FROM progress WHERE group_name = ? AND target IS NOT NULL", group)
    )
    targets = share_partitions(members=members, partitions=partitions, current=current)
    transaction.change_many(
        "INSERT INTO progress (group_name, partition, target) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET target = excluded.target",
        [
            (group, partition, targets.get(partition))
            for partition in partitions.keys() | current.keys()
            if targets.get(partition) != current.get(partition)
        ],
    )
    _bump_generation(transaction, group)


def _bump_generation(transaction: WriteTransaction, group: str) -> None:
    [(generation,)] = transaction.select(
        "INSERT INTO consumer_groups VALUES (?, 1)"
        " ON CONFLICT DO UPDATE SET generation = generation + 1 RETURNING generation",
        group,
    )
    transaction.changes.generations[group] = generation
