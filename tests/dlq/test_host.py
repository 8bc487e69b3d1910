"""Redrives that were begun over HTTP outlive the process that ran them; on a real log, with hosts as processes."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest

from pabal.dlq.parts import DeadLetters
from pabal.dlq.redrive.book import CANCELLED, REQUESTED
from pabal.dlq.redrive.claim import TopicClaim, claim_record, release_record
from pabal.dlq.redrive.hold import letters_of
from pabal.dlq.redrive.host import RedriveHost
from pabal.dlq.redrive.plan import Plan
from pabal.dlq.redrive.run import ENDED, STARTED, Ending
from pabal.dlq.redrive.status import list_redrives
from pabal.dlq.redrive.stepping import Pace
from pabal.errors import ConfigError, LetterRefused, RedriveHeld
from tests.dlq.lab import QUICK, CrashingProducer, Lab
from tests.waiting import eventually, eventually_told

LETTERS = 12
CANARY_FOR_EVER = Pace(canary=1, per_second=100.0, patience_seconds=60.0)
"""Until its only canary is answered, a redrive at this pace does not end."""


def a_host(desk: DeadLetters) -> RedriveHost:
    return RedriveHost(desk, look_seconds=0.02, lease_seconds=0.6)


@contextlib.asynccontextmanager
async def following(*hosts: RedriveHost) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(host.follow()) for host in hosts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for host in hosts:
            await host.close()


async def buried(lab: Lab, *, name: str = "p-1") -> Plan:
    await lab.bury(*(lab.delivery(number) for number in range(LETTERS)))
    return await lab.plan(name=name)


async def until_state(lab: Lab, state: str, *, plan: str = "p-1") -> None:
    async def stands_so() -> bool:
        return [
            view.state for view in await list_redrives(lab.desk.tails, clock=lab.desk.clock, since=None, plan=plan)
        ] == [state]

    await eventually_told(stands_so)


async def endings(lab: Lab) -> list[str]:
    return [fact.detail_as(Ending).ended for fact in await lab.facts(ENDED)]


async def test_what_a_stopped_process_leaves_the_next_one_ends_and_nothing_is_sent_twice(lab: Lab) -> None:
    plan = await buried(lab)
    first, second = a_host(lab.desk), a_host(lab.desk)
    await first.begin(plan, pace=CANARY_FOR_EVER, by="ana", reason="mended")
    await eventually_told(lab.redriven)
    await first.close()
    left = [view.state for view in await list_redrives(lab.desk.tails, clock=lab.desk.clock, since=None)]

    async with lab.answering(lambda delivery: "sent"), following(second):
        await until_state(lab, "completed")

    assert left == ["waiting"]
    assert await endings(lab) == ["interrupted", "completed"]
    assert [(fact.by, fact.reason) for fact in await lab.facts(STARTED)] == [("ana", "mended")] * 2
    assert sorted(delivery.id for delivery in await lab.redriven()) == sorted(
        lab.delivery(number).id for number in range(LETTERS)
    )


async def test_what_a_process_left_without_a_word_another_one_that_is_alive_ends(lab: Lab) -> None:
    plan = await buried(lab)
    crashing = DeadLetters(
        reader=lab.desk.tails.reader,
        admin=lab.desk.tails.admin,
        # The request, the claims, the start, the canary: then neither its mark nor an end.
        producer=CrashingProducer(lab.desk.producer, at_append=4, is_written=False),
        channels=lab.desk.channels,
        providers={},
        clock=lab.clock,
    )
    first, second = a_host(crashing), a_host(lab.desk)

    await first.begin(plan, pace=QUICK, by="ana", reason="mended")
    await eventually_told(lab.redriven)
    await first.close()
    async with lab.answering(lambda delivery: "sent"), following(second):
        await until_state(lab, "completed")

    assert len(await lab.facts(REQUESTED)) == 1
    assert len(await lab.facts(STARTED)) == 2
    redriven = await lab.redriven()
    assert {(delivery.id, delivery.attempt) for delivery in redriven} == {
        (lab.delivery(number).id, 4) for number in range(LETTERS)
    }
    # The canary was appended and not marked. Appended again it would be, for the ledger, a copy.
    assert len(redriven) <= LETTERS + QUICK.canary


async def test_of_many_processes_one_carries_it_out(lab: Lab) -> None:
    plan = await buried(lab)
    first, *others = hosts = [a_host(lab.desk) for _ in range(4)]

    async with lab.answering(lambda delivery: "sent"), following(*hosts):
        await asyncio.gather(*(host.begin(plan, pace=QUICK, by="ana", reason="mended") for host in (first, others[0])))
        await until_state(lab, "completed")

    assert await endings(lab) == ["completed"]
    assert max(Counter(delivery.id for delivery in await lab.redriven()).values()) == 1


async def test_it_is_cancelled_at_any_process_and_not_taken_up_again(lab: Lab) -> None:
    plan = await buried(lab)
    first, second = a_host(lab.desk), a_host(lab.desk)

    async with following(first, second):
        await first.begin(plan, pace=CANARY_FOR_EVER, by="ana", reason="mended")
        await eventually_told(lab.redriven)
        await second.cancel("p-1", by="ben")
        await until_state(lab, "cancelled")
        with pytest.raises(LetterRefused, match="p-1 is not being carried out by the API"):
            await second.cancel("p-1", by="ben")

    assert [fact.by for fact in await lab.facts(CANCELLED)] == ["ben"]
    assert await endings(lab) == ["cancelled"]
    assert len(await lab.redriven()) == 1


async def test_what_waits_for_a_process_is_cancelled_too(lab: Lab) -> None:
    plan = await buried(lab)
    first, second = a_host(lab.desk), a_host(lab.desk)
    await first.begin(plan, pace=CANARY_FOR_EVER, by="ana", reason="mended")
    await eventually_told(lab.redriven)
    await first.close()

    await second.cancel("p-1", by="ben")
    async with lab.answering(lambda delivery: "sent"), following(second):
        await buried(lab)
        await second.begin(await lab.plan(name="p-2"), pace=QUICK, by="ana", reason="later")
        await until_state(lab, "completed", plan="p-2")

    assert [fact.subject for fact in await lab.facts(STARTED)] == ["plan/p-1", "plan/p-2"]
    await until_state(lab, "cancelled", plan="p-1")


async def test_what_was_cancelled_can_be_begun_again(lab: Lab) -> None:
    plan = await buried(lab)
    host = a_host(lab.desk)

    async with following(host):
        await host.begin(plan, pace=CANARY_FOR_EVER, by="ana", reason="mended")
        await eventually_told(lab.redriven)
        await host.cancel("p-1", by="ben")
        await until_state(lab, "cancelled")
        async with lab.answering(lambda delivery: "sent"):
            await host.begin(plan, pace=QUICK, by="ana", reason="mended indeed")
            await until_state(lab, "completed")

    assert await endings(lab) == ["cancelled", "completed"]


async def test_it_waits_while_another_redrive_holds_its_topics_and_then_goes_on(lab: Lab) -> None:
    plan = await buried(lab)
    host = a_host(lab.desk)
    other = Lab(lab.broker, lab.desk)

    async with asyncio.TaskGroup() as group, following(host):
        group.create_task(other.redrive(await lab.plan(name="p-2"), pace=CANARY_FOR_EVER, token="t-2"))
        await until_state(lab, "running", plan="p-2")
        await host.begin(plan, pace=QUICK, by="ana", reason="mended")
        await until_state(lab, "waiting")
        other.stopping.set()
        async with lab.answering(lambda delivery: "sent"):
            await until_state(lab, "completed")

    assert [fact.subject for fact in await lab.facts(STARTED)] == ["plan/p-2", "plan/p-1"]


async def test_a_run_that_stood_still_and_lost_its_claim_says_so_and_it_goes_on_when_nobody_holds_it(lab: Lab) -> None:
    plan = await buried(lab)
    host = a_host(lab.desk)
    rival = TopicClaim(topic="", token="other", plan="p-2", by="ben", host="there", since=lab.clock.now())

    async with following(host):
        await host.begin(plan, pace=CANARY_FOR_EVER, by="ana", reason="mended")
        await eventually_told(lab.redriven)
        for letters in sorted(letters_of(plan)):
            await lab.append(release_record(letters), claim_record(msgspec.structs.replace(rival, topic=letters.topic)))
        await eventually_told(lambda: lab.facts(ENDED))
        left = [
            view.state for view in await list_redrives(lab.desk.tails, clock=lab.desk.clock, since=None, plan="p-1")
        ]
        await lab.end_leases()
        async with lab.answering(lambda delivery: "sent"):
            await until_state(lab, "completed")

    assert left == ["waiting"]
    assert await endings(lab) == ["interrupted", "completed"]
    assert len(await lab.redriven()) == LETTERS


async def test_while_the_claim_of_another_run_holds_a_process_waits_for_the_next_look_and_not_for_the_claim(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="pabal.dlq.redrive.host")
    plan = await buried(lab)
    host = a_host(lab.desk)
    former = TopicClaim(topic="", token="former", plan="p-1", by="ana", host="there", since=lab.clock.now())
    claims = [msgspec.structs.replace(former, topic=letters.topic) for letters in letters_of(plan)]
    await lab.append(*(claim_record(claim) for claim in claims))

    await host.begin(plan, pace=QUICK, by="ana", reason="mended")
    await eventually(lambda: "redrive p-1 is left for now" in caplog.text)
    await lab.end_leases()
    await host.close()

    assert await lab.facts(STARTED) == []
    await until_state(lab, "waiting")


async def test_a_defect_in_following_is_logged_and_ends_nothing_else(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    class Defective:
        async def watermarks(self, topic: str) -> object:
            raise ZeroDivisionError

    desk = DeadLetters(
        reader=lab.desk.tails.reader,
        admin=Defective(),  # type: ignore[arg-type]
        producer=lab.desk.producer,
        channels=lab.desk.channels,
        providers={},
        clock=lab.clock,
    )

    await a_host(desk).follow()

    assert "redrives met a defect" in caplog.text


async def test_what_the_command_left_is_not_taken_up_by_the_api(lab: Lab) -> None:
    left = await buried(lab, name="p-command")
    other = Lab(lab.broker, lab.desk)
    running = asyncio.create_task(other.redrive(left, pace=CANARY_FOR_EVER, token="t-1", lease_seconds=0.2))
    await eventually_told(lab.redriven)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    host = a_host(lab.desk)

    async with lab.answering(lambda delivery: "sent"), following(host):
        await host.begin(await lab.plan(name="p-2"), pace=QUICK, by="ana", reason="mended")
        await until_state(lab, "completed", plan="p-2")

    assert [fact.subject for fact in await lab.facts(STARTED)] == ["plan/p-command", "plan/p-2"]


async def test_another_plan_of_the_same_id_and_one_that_runs_here_are_refused(lab: Lab) -> None:
    plan = await buried(lab)
    host, other = a_host(lab.desk), a_host(lab.desk)
    await host.begin(plan, pace=CANARY_FOR_EVER, by="ana", reason="mended")
    await lab.bury(lab.delivery(99))

    with pytest.raises(RedriveHeld, match="is being carried out here already"):
        await host.begin(plan, pace=QUICK, by="ana", reason="mended")
    with pytest.raises(ConfigError, match="another plan of the id p-1 was begun"):
        await other.begin(await lab.plan(name="p-1"), pace=QUICK, by="ben", reason="mine")

    await host.close()
