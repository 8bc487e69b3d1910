"""What is said in `pabal.ops` of callees that answer again is told on, and nothing else is."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.notification import OPS_TOPIC
from pabal.ops.recoveries import Recoveries, Recovery, recovery_key, recovery_record, relapse_record

AT = datetime(2026, 1, 1, tzinfo=UTC)
A, B = (Recovery(channel="webhook", callee=f"hooks {name}", at=AT) for name in "ab")
KEY_A, KEY_B = recovery_key("webhook", "hooks a"), recovery_key("webhook", "hooks b")


class Lab:
    """The fold, and what it told."""

    def __init__(self) -> None:
        self.told: list[Mapping[bytes, Recovery | None]] = []
        self.fold = Recoveries(self.told.append)
        self._offset = 0

    def take(self, *records: NewRecord) -> None:
        self.fold.take([self._in_the_log(record) for record in records])

    def _in_the_log(self, record: NewRecord) -> Record:
        self._offset += 1
        return Record(
            topic=record.topic,
            partition=0,
            offset=self._offset,
            timestamp=AT.timestamp(),
            key=record.key,
            value=record.value,
            headers=record.headers,
        )


def test_of_what_was_said_the_last_word_of_each_is_told_on() -> None:
    lab = Lab()

    lab.take(recovery_record(A), recovery_record(B), relapse_record(KEY_A))
    lab.take()
    lab.take(recovery_record(A))

    assert lab.told == [{KEY_A: None, KEY_B: B}, {KEY_A: A}]


def test_other_records_and_those_of_a_later_version_are_passed_over() -> None:
    lab = Lab()
    newer = msgspec.structs.replace(recovery_record(A), headers=(("schema", b"recovery/2"),))
    mangled = msgspec.structs.replace(recovery_record(A), value=b"\xff")
    others = [NewRecord(topic=OPS_TOPIC, key=key, value=None) for key in (None, b"redrive/x")]

    lab.take(newer, mangled, *others, recovery_record(B))

    assert lab.told == [{KEY_B: B}]
    assert lab.fold.unreadable.count == 1


def test_that_a_callee_failed_before_it_answered_again_is_told_too() -> None:
    lab = Lab()

    lab.take(relapse_record(KEY_A), recovery_record(B), recovery_record(A))

    assert lab.told == [{KEY_A: None, KEY_B: B}, {KEY_A: A}]


def test_a_recovery_is_old_until_it_is_taken_back_or_cleared() -> None:
    lab = Lab()
    later = AT + timedelta(seconds=1)
    lab.take(recovery_record(A), recovery_record(B))

    old = list(lab.fold.older_than(later))
    lab.take(relapse_record(KEY_A))
    lab.fold.forget([KEY_B])

    assert (old, lab.fold.older_than(AT), lab.fold.older_than(later)) == ([KEY_A, KEY_B], [], [])
