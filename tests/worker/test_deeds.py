"""What was done is told to observers: after the append, as a value that has all that is counted."""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from pabal.broker.port import NewRecord, Position
from pabal.ledger.protocol import Held
from pabal.outcome import Accepted, DeadLetter, Deferred, Expired, Outcome, Park, RetryAt, Unknown
from pabal.worker.deed import Deed
from tests.worker.lab import WEBHOOK_TOPIC, Provider, WorkerLab
from tests.worker.lab import a_delivery as any_delivery
from tests.worker.test_deliver import NOW, ORIGIN, Lab, Scripted, a_delivery, lab

__all__ = ["lab"]


async def deeds_of(lab: Lab, does: Callable[[], Outcome], **changes: object) -> list[Deed]:
    """What is observed of one call."""
    seen: list[Deed] = []
    sending = lab.deliverer(Scripted(does), await lab.ledger("one"), observers=[seen.append])
    end = await sending.call(a_delivery(**changes), origin=ORIGIN, group="g")
    assert end is not None
    assert not isinstance(end, Held)
    assert seen == []
    await sending.tell([end])
    return seen


async def test_a_call_that_was_accepted_says_who_made_it_for_whom_and_how_long_it_took(lab: Lab) -> None:
    def slow() -> Outcome:
        lab.clock.advance(0.25)
        return Accepted()

    lab.clock.advance(3)

    [deed] = await deeds_of(lab, slow)

    assert (deed.kind, deed.channel, deed.class_, deed.provider) == ("sent", "webhook", "critical", "hooks")
    assert (deed.attempt, deed.outcome, deed.latency_seconds) == (1, Accepted(), 0.25)
    assert deed.age_seconds == 3.25
    assert not deed.is_redriven


async def test_what_was_scheduled_is_as_old_as_its_time(lab: Lab) -> None:
    lab.clock.advance(60)

    [deed] = await deeds_of(lab, Accepted, send_at=NOW + timedelta(seconds=50), redrives=1)

    assert deed.age_seconds == 10
    assert deed.is_redriven


@pytest.mark.parametrize(
    ("outcome", "kind"), [(Deferred(reason="503"), "deferred"), (Unknown(reason="no answer"), "unknown")]
)
async def test_a_call_that_another_follows_says_when(lab: Lab, outcome: Outcome, kind: str) -> None:
    [deed] = await deeds_of(lab, lambda: outcome)

    assert (deed.kind, deed.outcome) == (kind, outcome)
    assert deed.verdict == RetryAt(due=NOW + timedelta(seconds=5), rung=1)


async def test_what_is_decided_without_a_call_has_no_outcome(lab: Lab) -> None:
    seen: list[Deed] = []
    sending = lab.deliverer(Scripted(Accepted), await lab.ledger("one"), observers=[seen.append])
    park = Park(due=NOW + timedelta(seconds=7), callee="hooks example.com")

    for delivery in (a_delivery(), a_delivery(id=any_delivery(1).id, expires_at=NOW)):
        end = await sending.refuse(delivery, park, provider=None, origin=ORIGIN, group="g")
        assert end is not None
        assert not isinstance(end, Held)
        await sending.tell([end])

    assert [(deed.kind, deed.verdict) for deed in seen] == [("parked", park), ("expired", Expired())]
    assert {(deed.outcome, deed.latency_seconds) for deed in seen} == {(None, None)}


async def test_a_verdict_that_another_worker_stored_is_told_without_a_call_of_this_one(lab: Lab) -> None:
    died = lab.deliverer(Scripted(lambda: Deferred(reason="503")), await lab.ledger("died"))
    await died.call(a_delivery(), origin=ORIGIN, group="g")

    [deed] = await deeds_of(lab, Accepted)

    assert (deed.kind, deed.outcome, deed.latency_seconds) == ("deferred", None, None)
    assert isinstance(deed.verdict, RetryAt)


async def test_a_call_that_ends_late_has_no_verdict(lab: Lab) -> None:
    seen: list[Deed] = []

    async def overtaken() -> None:
        other = lab.deliverer(Scripted(lambda: Deferred(reason="503")), await lab.ledger("two"))
        await other.call(a_delivery(), origin=ORIGIN, group="g")

    class Slow(Scripted):
        async def send(self, *arguments: object, **more: object) -> Outcome:
            lab.clock.advance(60)
            await overtaken()
            return Deferred(reason="busy")

    sending = lab.deliverer(Slow(Accepted), await lab.ledger("one"), observers=[seen.append])
    end = await sending.call(a_delivery(), origin=ORIGIN, group="g")
    assert end is not None
    assert not isinstance(end, Held)
    await sending.tell([end])

    [deed] = seen
    assert (deed.kind, deed.outcome, deed.verdict) == ("deferred", Deferred(reason="busy"), None)


async def test_nothing_is_observed_before_it_is_in_the_log(lab: Lab) -> None:
    log: list[str] = []

    class Noting:
        async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
            log.append(f"{len(records)} records")
            return ()

        async def close(self) -> None:
            return None

    sending = lab.deliverer(Scripted(Accepted), await lab.ledger("one"), observers=[lambda deed: log.append(deed.kind)])
    sending.teller._producer = Noting()
    end = await sending.call(a_delivery(), origin=ORIGIN, group="g")
    assert end is not None
    assert not isinstance(end, Held)

    await sending.tell([end])

    assert log == ["1 records", "sent"]


async def test_an_observer_that_fails_ends_neither_sending_nor_the_other_observers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(deed: Deed) -> None:
        raise ZeroDivisionError(deed.kind)

    seen: list[Deed] = []
    async with WorkerLab.open(tmp_path) as lab:
        await lab.append(*(any_delivery(number) for number in range(3)))
        with caplog.at_level(logging.ERROR):
            async with lab.running(Provider(), observers=[fails, seen.append]):
                await lab.until_told("sent", count=3)

    assert [deed.kind for deed in seen] == ["sent"] * 3
    assert "an observer failed" in caplog.text


async def test_bytes_that_cannot_be_read_are_observed_as_a_dead_letter_of_their_class(tmp_path: Path) -> None:
    seen: list[Deed] = []
    async with WorkerLab.open(tmp_path) as lab:
        await lab.broker.producer().append([NewRecord(topic=WEBHOOK_TOPIC, key=None, value=b"{}")])
        await lab.append(any_delivery())
        async with lab.running(Provider(), observers=[seen.append]):
            await lab.until_told("sent")

    by_kind = {deed.kind: deed for deed in seen}
    dead = by_kind["dead_lettered"]
    assert (dead.channel, dead.class_, dead.provider, dead.age_seconds) == ("webhook", "critical", "", None)
    assert isinstance(dead.verdict, DeadLetter)
    assert dead.verdict.error_class == "unknown_schema"
