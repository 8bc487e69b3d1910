"""Leases and ownership, on a clock that stands still."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from pabal.broker.port import TopicSpec
from pabal.broker.sqlite import groups
from pabal.broker.sqlite.storage import Operation, Storage
from pabal.broker.sqlite.topics import add_partitions, create_topic
from pabal.clock import ManualClock
from pabal.errors import LogError

T = TypeVar("T")
SESSION = 6.0


class Log:
    """One connection, and the operations as a process would call them."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.storage = Storage(path, clock=self.clock)
        self.storage.prepare()
        self.run(partial(create_topic, spec=TopicSpec(name="t", partitions=2)))

    def run(self, operation: Operation[T]) -> T:
        [result] = self.storage.write([operation]).results
        if isinstance(result, Exception):
            raise result
        return result  # type: ignore[no-any-return]

    def join(self, process: str, *, instance: str | None = None, is_back: bool = False) -> groups.Settled:
        return self.run(
            partial(
                groups.join,
                group="g",
                topics=["t"],
                instance=instance,
                process=process,
                lease_seconds=SESSION,
                is_back=is_back,
            )
        )

    def settle(self, settled: groups.Settled, release: dict[int, int | None] | None = None) -> groups.Settled | None:
        return self.run(
            partial(
                groups.settle,
                member=settled.member,
                group="g",
                release=release or {},
                lease_seconds=SESSION,
            )
        )

    def commit(self, settled: groups.Settled, share: groups.Share, offset: int) -> list[int]:
        offsets = {share.partition: (share.epoch, offset)}
        return self.run(partial(groups.commit, member=settled.member, group="g", offsets=offsets))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "log.db")
    yield log
    log.storage.close()


def owned(settled: groups.Settled | None) -> list[int]:
    assert settled is not None
    return [share.partition for share in settled.shares]


def test_a_member_is_alive_until_its_lease_ends(log: Log) -> None:
    log.join("a")

    log.clock.advance(SESSION - 0.1)
    before = log.join("b")
    log.clock.advance(0.1)
    after = log.settle(before)
    log.run(groups.evict_expired)

    assert owned(before) == owned(after) == []
    assert owned(log.settle(before)) == [1, 2]


def test_a_boot_ends_every_lease(log: Log) -> None:
    log.join("a")

    log.clock.reboot()

    assert owned(log.join("b")) == [1, 2]


def test_a_heartbeat_renews_the_leases_of_those_it_names(log: Log) -> None:
    living, silent = log.join("a"), log.join("a")
    log.clock.advance(SESSION - 1)

    heartbeat = log.run(partial(groups.beat, leases={living.member: SESSION}, process="a"))
    log.clock.advance(2)
    log.run(groups.evict_expired)

    assert heartbeat == groups.Heartbeat(frozenset(), None)
    assert log.settle(living) is not None
    assert log.settle(silent) is None


def test_an_evicted_member_learns_it_from_its_heartbeat(log: Log) -> None:
    member = log.join("a")
    log.clock.advance(SESSION)
    log.run(groups.evict_expired)

    heartbeat = log.run(partial(groups.beat, leases={member.member: SESSION}, process="a"))

    assert heartbeat.fenced == {member.member}
    assert log.settle(member) is None


def test_a_heartbeat_tells_when_the_first_lease_of_another_process_ends(log: Log) -> None:
    mine = log.join("a")
    log.clock.advance(1)
    log.join("b")
    log.clock.advance(2)

    heartbeat = log.run(partial(groups.beat, leases={mine.member: SESSION}, process="a"))

    assert heartbeat.next_end_seconds == pytest.approx(SESSION - 2)


def test_the_next_owner_waits_for_the_former_to_release(log: Log) -> None:
    first = log.join("a")
    second = log.join("b")

    told = log.settle(first)
    assert told is not None
    [leaving] = [share.partition for share in told.shares if not share.is_target]
    waiting = log.settle(second)
    log.settle(first, {leaving: 7})
    taken = log.settle(second)

    assert owned(waiting) == []
    assert taken is not None
    assert [(share.partition, share.start) for share in taken.shares] == [(leaving, 7)]


def test_a_commit_of_a_former_ownership_is_refused_even_to_the_same_member(log: Log) -> None:
    first = log.join("a")
    share = first.shares[0]
    log.settle(first, {share.partition: 5})

    again = log.settle(first)
    assert again is not None
    refused = log.commit(first, share, 3)
    [new_share] = [each for each in again.shares if each.partition == share.partition]

    assert refused == [share.partition]
    assert new_share.epoch == share.epoch + 1
    assert log.commit(first, new_share, 6) == []
    assert log.storage.committed("g") == {share.partition: 6}


def test_a_dead_process_loses_its_members_at_once(log: Log) -> None:
    log.join("a")

    log.run(partial(groups.evict_process, process="a"))

    assert owned(log.join("b")) == [1, 2]


def test_a_fenced_instance_does_not_fence_its_successor_in_turn(log: Log) -> None:
    former = log.join("a", instance="one")
    successor = log.join("b", instance="one")

    with pytest.raises(LogError, match="'one'"):
        log.join("a", instance="one", is_back=True)

    assert log.settle(former) is None
    assert owned(log.settle(successor)) == [1, 2]


def test_members_share_what_a_topic_has_grown_by(log: Log) -> None:
    first, second = log.join("a"), log.join("b")
    told = log.settle(first)
    assert told is not None
    log.settle(first, {each.partition: None for each in told.shares if not each.is_target})

    log.run(partial(add_partitions, topic="t", total=6))

    assert len(owned(log.settle(first))) == len(owned(log.settle(second))) == 3


def test_offsets_are_set_once_the_last_lease_has_ended(log: Log) -> None:
    log.join("a")
    reset = partial(groups.reset_offsets, group="g", offsets={1: 9})

    with pytest.raises(LogError, match="has members"):
        log.run(reset)
    log.clock.advance(SESSION)
    log.run(reset)

    assert log.storage.committed("g") == {1: 9}
