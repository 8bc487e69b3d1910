"""The process of a redrive dies at every step there is; the same plan carried out again leaves nothing to wish for."""

import asyncio
from collections import Counter

import pytest

from pabal.channels.registry import installed_channels
from pabal.dlq.letters.marks import REDRIVEN
from pabal.dlq.letters.selection import Selection
from pabal.dlq.parts import DeadLetters
from pabal.dlq.redrive.plan import Plan
from pabal.dlq.redrive.stepping import Pace
from pabal.errors import RedriveHeld
from tests.dlq.lab import CrashingProducer, Failing, Lab
from tests.waiting import eventually

LETTERS = 6
PACE = Pace(canary=2, per_second=10_000.0, patience_seconds=10.0)

APPENDS = 8
"""Of an undisturbed run: claims, start, canary, its marks, the rest, its marks, end, release."""


def crashing(lab: Lab, *, at_append: int, is_written: bool) -> DeadLetters:
    producer = CrashingProducer(lab.desk.producer, at_append=at_append, is_written=is_written)
    return DeadLetters(
        reader=lab.desk.tails.reader,
        admin=lab.desk.tails.admin,
        producer=producer,
        channels=installed_channels(),
        providers={},
        clock=lab.clock,
    )


async def buried(lab: Lab) -> Plan:
    await lab.bury(*(lab.delivery(number) for number in range(LETTERS)))
    return await lab.plan()


async def test_an_undisturbed_redrive_appends_as_often_as_the_crashes_are_tried(lab: Lab) -> None:
    desk = crashing(lab, at_append=APPENDS, is_written=False)

    async with lab.answering(lambda delivery: "sent"):
        ending = await lab.redrive(await buried(lab), desk=desk, pace=PACE)
        with pytest.raises(Failing):
            await desk.producer.append([])

    assert ending.ended == "completed"


@pytest.mark.parametrize("is_written", [False, True], ids=["before it is written", "after it was written"])
@pytest.mark.parametrize("at_append", range(APPENDS))
async def test_whatever_append_the_process_dies_in_nothing_is_lost_and_nothing_is_called_twice(
    lab: Lab, at_append: int, *, is_written: bool
) -> None:
    plan = await buried(lab)

    async with lab.answering(lambda delivery: "sent"):
        with pytest.raises(Failing):
            await lab.redrive(plan, desk=crashing(lab, at_append=at_append, is_written=is_written), pace=PACE)
        await lab.end_leases()
        ending = await lab.redrive(plan, token="t-2", pace=PACE)

    redriven = await lab.redriven()
    assert ending.ended == "completed"
    # The ledger calls once for each (delivery, attempt, parks), however many records name it.
    sources = Counter((delivery.id, delivery.attempt, delivery.parks) for delivery in redriven)
    assert set(sources) == {(lab.delivery(number).id, 4, 0) for number in range(LETTERS)}
    assert len(redriven) <= LETTERS + 4
    _, still_open = await lab.desk.letters.newest(Selection(), states=("open",), limit=1)
    assert still_open == 0
    marks = Counter(fact.subject for fact in await lab.facts(REDRIVEN))
    assert all(count == 1 for count in marks.values())


async def test_a_run_that_is_alive_is_not_waited_for(lab: Lab) -> None:
    plan = await buried(lab)
    other = Lab(lab.broker, lab.desk)

    async with asyncio.TaskGroup() as group:
        running = group.create_task(other.redrive(plan, pace=PACE, lease_seconds=0.5))
        await eventually(lambda: other.steps.seen)
        with pytest.raises(RedriveHeld, match=r"ana on here redrives from pabal\.dead\.\w+ already: plan p-1"):
            await lab.redrive(plan, token="t-2", pace=PACE)
        other.stopping.set()

    assert running.result().ended == "cancelled"


async def test_a_run_that_ended_without_a_word_is_waited_for(lab: Lab) -> None:
    plan = await buried(lab)
    with pytest.raises(Failing):
        await lab.redrive(plan, desk=crashing(lab, at_append=2, is_written=False), pace=PACE, lease_seconds=0.5)

    async with lab.answering(lambda delivery: "sent"):
        ending = await lab.redrive(plan, token="t-2", pace=PACE)

    assert ending.ended == "completed"
    assert lab.steps.waited_for
