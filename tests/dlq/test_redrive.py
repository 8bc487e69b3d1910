from collections.abc import Mapping, Sequence
from datetime import timedelta

import pytest

from pabal.broker.port import Admin, NewRecord, Position, Producer, TopicPartition, Watermarks
from pabal.channels.registry import installed_channels
from pabal.codec import event_record, read_event, receipt_record, suppression_record
from pabal.dlq.letters.letter import LetterId
from pabal.dlq.letters.marks import REDRIVEN, RESOLVED
from pabal.dlq.letters.selection import Selection
from pabal.dlq.parts import DeadLetters
from pabal.dlq.redrive.answers import Tally
from pabal.dlq.redrive.claim import TopicClaim, claim_record
from pabal.dlq.redrive.plan import Rules
from pabal.dlq.redrive.run import ENDED, STARTED
from pabal.dlq.redrive.stepping import Pace, Pause, Send, Step
from pabal.errors import LogUnavailable, RedriveHeld
from pabal.notification import EVENTS_TOPIC, Receipt, Suppression, receipt_id
from tests.dlq.lab import QUICK, Lab, an_event
from tests.waiting import eventually


async def test_a_plan_says_what_would_become_of_every_letter_and_why(lab: Lab) -> None:
    now = lab.clock.now()
    gone = lab.delivery(5, address="https://gone.example/")
    suppression = Suppression(
        tenant=gone.tenant, channel=gone.channel, address=gone.address, reason="bounced", since=now
    )
    await lab.append(suppression_record(suppression))
    await lab.append(event_record(an_event(lab.delivery(7), "sent", attempt=1, at=now)))
    await lab.bury(lab.delivery(1), lab.delivery(2), lab.delivery(2), None, gone, lab.delivery(7))
    await lab.bury(lab.delivery(3, expires_at=now), lab.delivery(4, redrives=3))
    await lab.bury(lab.delivery(6), error_class="uncertain")
    await lab.desk.decisions.discard(LetterId("webhook", 0, 1), by="ana", reason="x")

    plan = await lab.plan()

    assert plan.counts == {
        "redrive": 1,
        "discarded": 1,
        "sent": 1,
        "copy": 1,
        "undecodable": 1,
        "uncertain": 1,
        "capped": 1,
        "expired": 1,
        "suppressed": 1,
    }
    assert plan.error_classes == {"exhausted": 1}


async def test_what_is_given_up_after_the_plan_was_made_is_not_its_business(lab: Lab) -> None:
    await lab.bury(lab.delivery(1))
    plan = await lab.plan()
    await lab.bury(lab.delivery(2))

    async with lab.answering(lambda delivery: "sent"):
        ending = await lab.redrive(plan)

    assert (ending.ended, ending.tally.redriven) == ("completed", 1)


async def test_letters_go_back_to_their_own_topic_marked_and_told_of_and_how_it_ended_is_a_fact(lab: Lab) -> None:
    await lab.bury(*(lab.delivery(number) for number in range(5)))

    async with lab.answering(lambda delivery: "sent"):
        ending = await lab.redrive(await lab.plan())

    assert ending.tally == Tally(redriven=5, sent=5)
    redriven = await lab.redriven()
    assert {delivery.id for delivery in redriven} == {lab.delivery(number).id for number in range(5)}
    assert {(delivery.attempt, delivery.rung, delivery.parks, delivery.redrives) for delivery in redriven} == {
        (4, 0, 0, 1)
    }
    assert {fact.subject for fact in await lab.facts(REDRIVEN)} == {f"webhook/0/{number}" for number in range(5)}
    told = [read_event(record) for record in await lab.records(EVENTS_TOPIC)]
    assert sum(event.kind == "redriven" for event in told) == 5
    [started], [ended] = await lab.facts(STARTED), await lab.facts(ENDED)
    assert (started.by, started.reason, started.subject) == ("ana", "the endpoint is mended", "plan/p-1")
    assert (ended.ended or "").startswith("completed")
    newest, total = await lab.desk.letters.newest(Selection(), states=("open",), limit=10)
    assert (newest, total) == ([], 0)


async def test_the_canary_goes_first_and_nothing_more_when_it_comes_back(lab: Lab) -> None:
    await lab.bury(*(lab.delivery(number) for number in range(20)))

    async with lab.answering(lambda delivery: "dead_lettered"):
        ending = await lab.redrive(await lab.plan())

    assert ending.ended == "aborted"
    assert ending.tally.redriven == 2
    assert ending.tally.returned >= 1
    assert len(await lab.redriven()) == 2
    assert (await lab.facts(ENDED))[0].ended == f"aborted: {ending.message}"


async def test_it_stops_when_they_begin_to_come_back_later(lab: Lab) -> None:
    await lab.bury(*(lab.delivery(number) for number in range(400)))
    healthy = {lab.delivery(number).id for number in range(50)}

    async with lab.answering(lambda delivery: "sent" if delivery.id in healthy else "deferred"):
        ending = await lab.redrive(await lab.plan(), pace=Pace(canary=2, per_second=100.0, patience_seconds=10.0))

    assert ending.ended == "aborted"
    assert ending.tally.redriven < 400
    assert ending.tally.sent == 50


async def test_the_last_answers_are_waited_for_but_not_for_ever(lab: Lab) -> None:
    await lab.bury(*(lab.delivery(number) for number in range(3)))
    silent = lab.delivery(2).id

    async with lab.answering(lambda delivery: None if delivery.id == silent else "sent"):
        ending = await lab.redrive(await lab.plan(), pace=Pace(canary=1, per_second=100.0, patience_seconds=0.3))

    assert (ending.ended, ending.tally) == ("unanswered", Tally(redriven=3, sent=2))
    assert isinstance(lab.steps.seen[-2][1], Pause)


async def test_stopped_by_hand_it_marks_what_it_began_and_the_same_plan_goes_on_from_there(lab: Lab) -> None:
    await lab.bury(*(lab.delivery(number) for number in range(30)))
    plan = await lab.plan()

    def stop_early(tally: Tally, step: Step) -> None:
        if tally.redriven >= 5 and isinstance(step, Send):
            lab.stopping.set()

    lab.steps.on_step = stop_early
    pace = Pace(canary=5, per_second=50.0, patience_seconds=10.0)
    async with lab.answering(lambda delivery: "sent"):
        first = await lab.redrive(plan, pace=pace)
        lab.stopping.clear()
        lab.steps.on_step = lambda tally, step: None
        second = await lab.redrive(plan, pace=QUICK, token="t-2")
        third = await lab.redrive(plan, pace=QUICK, token="t-3")

    assert [each.message for each in (second, third)] == [
        "every letter of the plan has been dealt with, and answered",
        "an earlier run has redriven all of it; nothing was left to do",
    ]
    assert first.ended == "cancelled"
    assert first.tally.redriven < 30
    assert second.tally == Tally(redriven=30, sent=30)
    assert len(await lab.redriven()) == 30


async def test_an_edited_letter_is_redriven_as_corrected(lab: Lab) -> None:
    await lab.bury(lab.delivery(1))
    await lab.desk.decisions.edit(
        LetterId("webhook", 0, 0), address="https://new.example/", provider="webhook", by="ana", reason="moved"
    )

    async with lab.answering(lambda delivery: "sent"):
        await lab.redrive(await lab.plan())

    [delivery] = await lab.redriven()
    assert (delivery.address, delivery.provider, delivery.edit) == ("https://new.example/", "webhook", 1)
    assert delivery.first_failed_at is None


async def test_what_was_sent_after_all_is_resolved_and_not_redriven(lab: Lab) -> None:
    await lab.bury(lab.delivery(1), error_class="uncertain")
    plan = await lab.plan(rules=Rules(include_uncertain=True))
    assert plan.redrives == 1
    await lab.append(event_record(an_event(lab.delivery(1), "sent", at=lab.clock.now())))

    ending = await lab.redrive(plan)

    assert (ending.ended, ending.resolved, ending.tally.redriven) == ("completed", 1, 0)
    assert len(await lab.facts(RESOLVED)) == 1
    assert (await lab.desk.letters.find(LetterId("webhook", 0, 0))).standing.state == "resolved"


async def test_what_expires_between_plan_and_redrive_is_left_where_it_is(lab: Lab) -> None:
    expires_at = lab.clock.now() + timedelta(seconds=0.3)
    await lab.bury(lab.delivery(1, expires_at=expires_at))
    plan = await lab.plan()
    assert plan.redrives == 1
    await eventually(lambda: lab.clock.now() > expires_at)

    ending = await lab.redrive(plan)

    assert ending.tally.redriven == 0
    assert (await lab.desk.letters.find(LetterId("webhook", 0, 0))).standing.state == "open"


async def test_one_redrive_at_a_time_from_a_dead_topic(lab: Lab) -> None:
    await lab.bury(lab.delivery(1))
    now = lab.clock.now()
    bens = TopicClaim(topic="pabal.dead.webhook", token="b", plan="p-9", by="ben", host="h-2", since=now)
    await lab.append(claim_record(bens))

    with pytest.raises(RedriveHeld, match=r"ben on h-2 redrives from pabal.dead.webhook already: plan p-9"):
        await lab.redrive(await lab.plan())

    assert await lab.redriven() == []
    assert await lab.facts(STARTED) == []


async def test_a_redrive_lets_go_of_its_topics_at_the_end_so_that_the_next_need_not_wait(lab: Lab) -> None:
    await lab.bury(lab.delivery(1))
    async with lab.answering(lambda delivery: "sent"):
        await lab.redrive(await lab.plan(name="p-1"), token="t-1")
        await lab.bury(lab.delivery(2))

        ending = await lab.redrive(await lab.plan(name="p-2"), token="t-2")

    assert ending.ended == "completed"
    assert lab.steps.waited_for == []


async def test_what_a_receipt_speaks_of_was_sent(lab: Lab) -> None:
    await lab.bury(lab.delivery(1), error_class="uncertain")
    receipt = Receipt(
        id=receipt_id(provider="webhook", event="e-1"),
        provider="webhook",
        kind="delivered",
        at=lab.clock.now(),
        delivery_id=lab.delivery(1).id,
    )
    await lab.append(receipt_record(receipt))

    plan = await lab.plan(rules=Rules(include_uncertain=True))

    assert plan.counts == {"sent": 1}


class Flickering:
    """A producer whose log is away at every third append."""

    def __init__(self, inner: Producer) -> None:
        self._inner = inner
        self._calls = 0

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        self._calls += 1
        if self._calls % 3 == 0:
            raise LogUnavailable("away")
        return await self._inner.append(records)

    async def close(self) -> None:
        await self._inner.close()


class FlickeringAdmin:
    """Of an admin client what reading needs; after the redrive has begun, some questions are not answered."""

    def __init__(self, inner: Admin) -> None:
        self._inner = inner
        self._calls = 0

    async def watermarks(self, topic: str) -> Mapping[TopicPartition, Watermarks]:
        self._calls += 1
        if self._calls in (20, 21, 40):
            raise LogUnavailable("away")
        return await self._inner.watermarks(topic)


async def test_a_log_that_cannot_be_read_for_moments_holds_a_redrive_up_and_no_more(lab: Lab) -> None:
    await lab.bury(*(lab.delivery(number) for number in range(20)))
    plan = await lab.plan()
    admin = FlickeringAdmin(lab.desk.tails.admin)
    desk = DeadLetters(
        reader=lab.desk.tails.reader,
        admin=admin,  # type: ignore[arg-type]  # nothing else is asked of it
        producer=lab.desk.producer,
        channels=installed_channels(),
        providers={},
        clock=lab.clock,
    )

    async with lab.answering(lambda delivery: "sent"):
        ending = await lab.redrive(plan, desk=desk)

    assert (ending.ended, ending.tally) == ("completed", Tally(redriven=20, sent=20))
    assert len(await lab.redriven()) == 20


async def test_a_log_that_is_away_for_moments_holds_a_redrive_up_and_no_more(lab: Lab) -> None:
    await lab.bury(*(lab.delivery(number) for number in range(20)))
    plan = await lab.plan()
    desk = desk_with(lab, Flickering(lab.desk.producer))

    async with lab.answering(lambda delivery: "sent"):
        ending = await lab.redrive(plan, desk=desk)

    assert (ending.ended, ending.tally) == ("completed", Tally(redriven=20, sent=20))
    assert len(await lab.redriven()) == 20


async def test_what_a_person_closes_between_plan_and_redrive_is_not_redriven(lab: Lab) -> None:
    await lab.bury(lab.delivery(1), lab.delivery(2))
    plan = await lab.plan()
    await lab.desk.decisions.discard(LetterId("webhook", 0, 0), by="ben", reason="gone")

    async with lab.answering(lambda delivery: "sent"):
        await lab.redrive(plan)

    assert [delivery.id for delivery in await lab.redriven()] == [lab.delivery(2).id]


async def test_a_letter_that_was_written_twice_is_redriven_once(lab: Lab) -> None:
    await lab.bury(lab.delivery(1), lab.delivery(1))

    async with lab.answering(lambda delivery: "sent"):
        await lab.redrive(await lab.plan())

    assert len(await lab.redriven()) == 1
    _, still_open = await lab.desk.letters.newest(Selection(), states=("open",), limit=1)
    assert still_open == 0


class Overtaken:
    """A producer whose first append comes second: another run's claim stands before it."""

    def __init__(self, inner: Producer, rival: NewRecord) -> None:
        self._inner = inner
        self._rivals = [rival]

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        if self._rivals:
            await self._inner.append([self._rivals.pop()])
        return await self._inner.append(records)

    async def close(self) -> None:
        await self._inner.close()


async def test_of_two_redrives_that_begin_at_the_same_moment_one_is_refused(lab: Lab) -> None:
    await lab.bury(lab.delivery(1))
    now = lab.clock.now()
    bens = TopicClaim(topic="pabal.dead.webhook", token="b", plan="p-9", by="ben", host="h-2", since=now)
    desk = desk_with(lab, Overtaken(lab.desk.producer, claim_record(bens)))

    with pytest.raises(RedriveHeld, match="ben on h-2"):
        await lab.redrive(await lab.plan(), desk=desk)

    assert await lab.redriven() == []


def desk_with(lab: Lab, producer: Producer) -> DeadLetters:
    return DeadLetters(
        reader=lab.desk.tails.reader,
        admin=lab.desk.tails.admin,
        producer=producer,
        channels=installed_channels(),
        providers={},
        clock=lab.clock,
    )
