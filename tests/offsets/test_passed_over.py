"""Deliveries that a group's offset was moved beyond: found, counted, told, and sent after all if a person says so."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from pabal.codec import delivery_record
from pabal.notification import Delivery
from pabal.offsets.moving import leave, read_passed_over, read_skips, rewind
from pabal.offsets.passed import LOOK_AT, PassedOver, find_passed_over
from tests.offsets.lab import DamagedLog
from tests.offsets.test_roles import DAMAGED, GROUP, SOUND, WITHIN, append, complaints, to, worker_lab
from tests.waiting import eventually, eventually_told
from tests.worker.lab import WEBHOOK_TOPIC, Provider

pytestmark = pytest.mark.timeout(120)

BACKLOG = LOOK_AT + 10


async def start_clean(log: DamagedLog) -> int:
    """Nothing of other tests in the way; where the next record of the partition will stand."""
    await log.delete_all(WEBHOOK_TOPIC)
    await log.at_the_end(GROUP, [WEBHOOK_TOPIC])
    for passed in await read_passed_over(log.broker.reader()):
        await leave(log.broker, passed, by="test", reason="left over", at=datetime.now(UTC))
    return (await log.marks(WEBHOOK_TOPIC))[DAMAGED].high


async def pass_over(log: DamagedLog, folder: Path) -> int:
    """Three deliveries sent by a worker, then a backlog that the group is reset beyond; the first of that."""
    first = await start_clean(log)
    provider = Provider()
    async with worker_lab(log, folder).running(provider):
        await append(log, DAMAGED, to(1), to(2), to(3))
        await eventually(lambda: len(provider.sent) == 3, within_seconds=WITHIN)
    await append(log, DAMAGED, *(to(100 + number) for number in range(BACKLOG)))
    await log.at_the_end(GROUP, [WEBHOOK_TOPIC])
    return first + 3


async def found(log: DamagedLog) -> list[PassedOver]:
    """Of this test's partition: on a Kafka that is shared, others stand beside it."""
    return [each for each in await read_passed_over(log.broker.reader()) if each.topic_partition == DAMAGED]


async def test_a_backlog_that_a_group_was_reset_beyond_is_counted_told_and_sent_after_all_by_a_persons_word(
    log: DamagedLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = await pass_over(log, tmp_path)
    assert complaints(caplog) == []
    provider = Provider()

    async with worker_lab(log, tmp_path).running(provider):
        await append(log, SOUND, to(11))
        await append(log, DAMAGED, to(4))
        await eventually(lambda: len(provider.sent) == 2, within_seconds=WITHIN)
        await eventually(lambda: complaints(caplog), within_seconds=WITHIN)
        [passed] = await found(log)
        await rewind(log.broker, passed, by="Ada", reason="a slip", at=datetime.now(UTC))
        await eventually(lambda: len(provider.sent) == 2 + BACKLOG, within_seconds=WITHIN)

        async def is_decided() -> bool:
            return not await found(log) and await log.committed(GROUP, DAMAGED) == first + BACKLOG + 1

        await eventually_told(is_decided)
    async with worker_lab(log, tmp_path).running(provider):
        await append(log, DAMAGED, to(5))
        await eventually(lambda: len(provider.sent) == 3 + BACKLOG, within_seconds=WITHIN)

    assert (passed.from_, passed.to, passed.count) == (first, first + BACKLOG, BACKLOG)
    assert len({address for _, address in provider.sent}) == len(provider.sent)
    [complaint] = complaints(caplog)
    assert f"passed over {BACKLOG} deliveries of {WEBHOOK_TOPIC}/0" in complaint
    assert f"pabal offsets rewind {GROUP} {WEBHOOK_TOPIC} 0 --reason" in complaint


async def test_where_the_group_has_no_members_its_offset_is_set_back_at_once(log: DamagedLog, tmp_path: Path) -> None:
    first = await pass_over(log, tmp_path)
    async with worker_lab(log, tmp_path).running(Provider()):
        await eventually_told(lambda: found(log), within_seconds=WITHIN)
    [passed] = await found(log)

    async def is_set_back() -> bool:  # a member that has just left may still be counted
        return await rewind(log.broker, passed, by="Ada", reason="a slip", at=datetime.now(UTC)) is None

    await eventually_told(is_set_back)

    assert await log.committed(GROUP, DAMAGED) == first
    assert await found(log) == []


async def test_what_a_person_leaves_unread_is_not_told_of_again_and_is_audited(tmp_path: Path) -> None:
    async with DamagedLog.opened(str(tmp_path / "log.db")) as log:
        first = await pass_over(log, tmp_path)
        async with worker_lab(log, tmp_path).running(Provider()):
            await eventually_told(lambda: found(log), within_seconds=WITHIN)
        [passed] = await found(log)

        await leave(log.broker, passed, by="Ada", reason="a test", at=datetime.now(UTC))

        assert await found(log) == []
        [decided] = await read_skips(log.broker.reader())
        assert (decided.skipped.from_, decided.skipped.count, decided.skipped.why) == (first, BACKLOG, "passed over")


class Knowing:
    """A ledger that knows some deliveries."""

    def __init__(self, *known: Delivery) -> None:
        self._known = {each.id for each in known}

    async def known(self, deliveries: Collection[UUID]) -> Collection[UUID]:
        return self._known & set(deliveries)


async def test_what_is_over_unreadable_or_older_than_the_ledger_is_not_passed_over(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    over = msgspec.structs.replace(to(1), expires_at=now - timedelta(seconds=1))
    misplaced = msgspec.structs.replace(to(2), class_="bulk")
    async with DamagedLog.opened(str(tmp_path / "log.db")) as log:
        await append(log, DAMAGED, over, to(3))
        producer = log.broker.producer()
        await producer.append([msgspec.structs.replace(delivery_record(misplaced), topic=WEBHOOK_TOPIC, partition=0)])
        end = (await log.marks(WEBHOOK_TOPIC))[DAMAGED].high

        async def ask(*, committed: int, since: datetime | None = None, ledger: Knowing | None = None) -> object:
            return await find_passed_over(
                log.broker.reader(),
                ledger or Knowing(),
                DAMAGED,
                group=GROUP,
                low=0,
                committed=committed,
                since=since,
                now=now,
            )

        assert await ask(committed=1) is None
        assert await ask(committed=end, since=now + timedelta(hours=1)) is None
        assert await ask(committed=end, ledger=Knowing(to(3))) is None
        passed = await ask(committed=end)
        assert isinstance(passed, PassedOver)
        assert (passed.from_, passed.to, passed.count) == (1, end, 1)
