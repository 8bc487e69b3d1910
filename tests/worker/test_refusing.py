"""Deliveries that are decided without a call, and those that only one provider may carry."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from pabal.channels.webhook import WebhookChannel
from pabal.codec import read_delivery
from pabal.ledger.protocol import Held
from pabal.notification import Delivery
from pabal.outcome import Accepted, DeadLetter, Deferred, Outcome, Park, Unknown
from pabal.worker.carrier import Carrier
from pabal.worker.errand import End
from tests.worker.lab import Sending
from tests.worker.test_deliver import NOW, ORIGIN, Lab, Scripted, a_delivery, lab

__all__ = ["lab"]

PARK = Park(due=NOW + timedelta(seconds=7), reason="not taken for now by hooks example.com")


async def deliverer(lab: Lab, *, worker: str = "one", **providers: Scripted) -> Sending:
    first, *others = (
        Carrier(channel=WebhookChannel(), provider=provider, provider_name=name) for name, provider in providers.items()
    )
    return Sending(
        carrier=msgspec.structs.replace(first, others=tuple(others)),
        ledger=await lab.ledger(worker),
        producer=lab.broker.producer(),
        clock=lab.clock,
    )


async def refuse(to: Sending, delivery: Delivery, verdict: Any, *, provider: str | None = None) -> End | Held | None:
    end = await to.refuse(delivery, verdict, provider=provider, origin=ORIGIN, group="g")
    if isinstance(end, End):
        await to.tell([end])
    return end


async def call(to: Sending, delivery: Delivery) -> End | Held | None:
    end = await to.call(delivery, origin=ORIGIN, group="g")
    if isinstance(end, End):
        await to.tell([end])
    return end


async def test_a_park_leaves_attempt_and_rung_as_they_are_and_says_why(lab: Lab) -> None:
    one = await deliverer(lab, hooks=Scripted(Accepted))

    await refuse(one, a_delivery(attempt=2, rung=1), PARK)

    [waiting] = [read_delivery(record) for record in await lab.records("pabal.delay.critical.30")]
    assert (waiting.attempt, waiting.rung, waiting.parks) == (2, 1, 1)
    [event] = await lab.events()
    assert (event.kind, event.attempt, event.due, event.detail) == ("parked", 2, PARK.due, PARK.reason)


async def test_a_copy_of_what_was_parked_is_a_ghost_and_what_comes_back_is_called(lab: Lab) -> None:
    provider = Scripted(Accepted)
    one = await deliverer(lab, hooks=provider)
    await refuse(one, a_delivery(), PARK)

    assert await call(one, a_delivery()) is None
    assert provider.calls == 0
    [waiting] = [read_delivery(record) for record in await lab.records("pabal.delay.critical.30")]
    await call(one, waiting)

    assert provider.calls == 1
    assert [(event.kind, event.attempt) for event in await lab.events()] == [("parked", 1), ("sent", 1)]


async def test_a_park_beyond_the_expiry_is_the_expiry(lab: Lab) -> None:
    one = await deliverer(lab, hooks=Scripted(Accepted))

    await refuse(one, a_delivery(expires_at=PARK.due), PARK)

    assert [event.kind for event in await lab.events()] == ["expired"]


async def test_what_nobody_may_carry_is_dead_lettered_uncalled(lab: Lab) -> None:
    one = await deliverer(lab, hooks=Scripted(Accepted))
    verdict = DeadLetter(error_class="no_such_provider", message="gone")

    await refuse(one, a_delivery(provider="gone"), verdict, provider="gone")

    [dead] = await lab.records("pabal.dead.webhook")
    assert dead.header("x-error-class") == b"no_such_provider"


async def test_a_call_lost_at_a_provider_that_is_gone_is_uncertain(lab: Lab) -> None:
    await _lose_a_call(lab, provider="gone")
    one = await deliverer(lab, worker="two", hooks=Scripted(Accepted))

    held = await call(one, a_delivery())
    assert held == Held(seconds=0.0, provider="gone")
    verdict = DeadLetter(error_class="no_such_provider", message="gone")
    await refuse(one, a_delivery(provider="gone"), verdict, provider="gone")

    [dead] = await lab.records("pabal.dead.webhook")
    assert dead.header("x-error-class") == b"uncertain"
    assert read_delivery(dead).provider == "gone"


async def test_a_call_that_was_lost_is_followed_only_at_the_same_provider_and_so_is_all_after_it(lab: Lab) -> None:
    await _lose_a_call(lab, provider="backup")
    main, backup = Scripted(Accepted), Scripted(lambda: Deferred(reason="503"))
    one = await deliverer(lab, worker="two", main=main, backup=backup)

    assert await call(one, a_delivery()) == Held(seconds=0.0, provider="backup")
    await call(one, a_delivery(provider="backup"))

    assert (main.calls, backup.calls) == (0, 1)
    [waiting] = [read_delivery(record) for record in await lab.records("pabal.delay.critical.5")]
    assert (waiting.attempt, waiting.provider) == (3, "backup")
    assert {(event.kind, event.provider) for event in await lab.events()} == {
        ("unknown", "backup"),
        ("deferred", "backup"),
    }


@pytest.mark.parametrize(
    ("outcome", "provider"), [(Deferred(reason="503"), None), (Unknown(reason="no answer"), "main")], ids=repr
)
async def test_only_an_unknown_end_binds_a_delivery_to_its_provider(
    lab: Lab, outcome: Outcome, provider: str | None
) -> None:
    one = await deliverer(lab, main=Scripted(lambda: outcome), backup=Scripted(Accepted))

    await call(one, a_delivery())

    [waiting] = [read_delivery(record) for record in await lab.records("pabal.delay.critical.5")]
    assert waiting.provider == provider


async def test_an_unknown_end_told_by_another_worker_still_names_its_provider(lab: Lab) -> None:
    """The verdict was stored, its worker died before the append; the one that tells has another first provider."""
    died = await deliverer(lab, backup=Scripted(lambda: Unknown(reason="no answer")))
    await died.call(a_delivery(), origin=ORIGIN, group="g")
    one = await deliverer(lab, worker="two", main=Scripted(Accepted), backup=Scripted(Accepted))

    await call(one, a_delivery())

    [waiting] = [read_delivery(record) for record in await lab.records("pabal.delay.critical.5")]
    assert waiting.provider == "backup"
    [event] = await lab.events()
    assert (event.kind, event.provider) == ("unknown", "backup")


async def _lose_a_call(lab: Lab, *, provider: str) -> None:
    """A worker claims at `provider`, and is never heard of again."""
    lost = await deliverer(lab, worker="lost", **{provider: Scripted(Accepted)})
    errand = lost.deliverer._begin(a_delivery(), origin=ORIGIN, group="g", provider=provider)
    await lost.deliverer._claim(errand)
    lab.clock.advance(60)
