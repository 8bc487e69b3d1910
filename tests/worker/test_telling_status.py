"""How a worker's groups are told of, and when an intake has stopped."""

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

import pytest

from pabal.groups import worker_group
from pabal.notification import CLASSES, NotificationClass
from pabal.status.records import GroupStatus, PartitionStatus
from pabal.worker.channel import WorkerChannel
from pabal.worker.holds import IDLE_REASONS, IdleReason
from pabal.worker.intake import POLLING_SECONDS
from pabal.worker.telling_status import AILING_SECONDS, ailments_of, statuses_of
from tests.shifted_clock import ShiftedClock
from tests.waiting import eventually, eventually_told
from tests.worker.lab import WEBHOOK_TOPIC, Provider, WorkerLab, a_delivery

GUARD = "guard: every provider refuses"
BRAKE = "brake: too many of its records cannot be read"
DIRECTIVE = "directive: a person holds it"


def told(channel: WorkerChannel, class_: NotificationClass = "critical") -> GroupStatus:
    [status] = [each for each in statuses_of([channel]) if each.group == worker_group("webhook", class_)]
    return status


async def owns_all(channel: WorkerChannel) -> None:
    """Every intake has its partitions."""
    await eventually(lambda: all(each.partitions for each in statuses_of([channel])), within_seconds=20)


async def test_each_group_tells_its_partitions_and_how_many_of_their_records_ended(tmp_path: Path) -> None:
    async with WorkerLab.open(tmp_path) as lab:
        await lab.append(*(a_delivery(number) for number in range(3)))
        async with lab.running(Provider()) as channel:

            async def all_ended() -> bool:
                return told(channel).partitions == (PartitionStatus(WEBHOOK_TOPIC, 0, 3, 2),)

            await eventually_told(all_ended)
            await owns_all(channel)

            assert {each.group for each in statuses_of([channel])} == {
                worker_group("webhook", each) for each in CLASSES
            }
            [untouched] = told(channel, "bulk").partitions
            assert (untouched.ended, untouched.highest_ended) == (0, None)


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        ([], None),
        (["guard"], GUARD),
        (["brake"], BRAKE),
        (["directive"], DIRECTIVE),
        (["directive", "brake", "guard"], f"{GUARD}, {BRAKE}, {DIRECTIVE}"),
    ],
)
async def test_a_group_that_takes_nothing_on_purpose_says_why_and_goes_on_polling(
    tmp_path: Path, reasons: Collection[IdleReason], words: str | None
) -> None:
    async with WorkerLab.open(tmp_path) as lab, lab.running(Provider()) as channel:
        intake = channel.intakes["critical"]
        for reason in reasons:
            intake.hold(reason)

        assert told(channel).held == words
        assert told(channel).is_polling
        assert told(channel, "bulk").held is None
        for reason in IDLE_REASONS:
            intake.let_go(reason)


async def test_an_intake_that_does_not_come_round_polls_no_more_and_at_last_ails(tmp_path: Path) -> None:
    clock = ShiftedClock()
    async with WorkerLab.open(tmp_path) as lab, lab.running(Provider(), clock=clock) as channel:
        await owns_all(channel)
        # Nothing is awaited from here on, so that no intake can come round.
        seen = []
        for seconds in (0.0, POLLING_SECONDS, AILING_SECONDS - POLLING_SECONDS):
            clock.ahead += timedelta(seconds=seconds)
            seen.append((told(channel).is_polling, len(ailments_of([channel]))))
        ailments = ailments_of([channel])

        assert seen == [(True, 0), (False, 0), (False, len(CLASSES))]
        assert ailments[0].startswith("pabal.worker.webhook.critical has not polled for 6")
        await eventually(lambda: not ailments_of([channel]), within_seconds=20)


async def test_a_worker_that_has_not_begun_ails_of_nothing(tmp_path: Path) -> None:
    clock = ShiftedClock()
    async with WorkerLab.open(tmp_path) as lab, lab.ledger() as ledger:
        channel = lab.worker(ledger, Provider(), clock=clock).channels["webhook"]
        clock.ahead += timedelta(hours=1)

        assert ailments_of([channel]) == []
        assert told(channel).is_polling
