"""The handle of a worker's channel: classes are held and let go, providers are slowed down, while it sends."""

import asyncio
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pabal.clock import ManualClock
from pabal.groups import worker_group
from pabal.ledger.protocol import Claim, Source
from pabal.notification import NotificationClass
from pabal.outcome import Accepted, Outcome
from pabal.worker.channel import WorkerChannel
from tests.waiting import eventually
from tests.worker.lab import WEBHOOK_TOPIC, Provider, WorkerLab, a_delivery

MANY = 100
CONCURRENCY = 4
SLOTS = 2
"""What one tenant at one host may have of them."""


class Gated(Provider):
    """Answers no call before `go_on` is set."""

    def __init__(self) -> None:
        super().__init__(self._wait)
        self.go_on = asyncio.Event()

    async def _wait(self, to: str) -> Outcome:
        del to
        await self.go_on.wait()
        return Accepted()


def in_memory(channel: WorkerChannel, class_: NotificationClass = "critical") -> int:
    return channel.intakes[class_].in_flight


async def committed(lab: WorkerLab) -> Collection[int]:
    found = await lab.broker.admin().committed(worker_group("webhook", "critical"), [WEBHOOK_TOPIC])
    return list(found.values())


async def filled(lab: WorkerLab, channel: WorkerChannel, provider: Gated, *, slots: int) -> None:
    """All are in memory, and the call slots are taken."""
    await eventually(lambda: in_memory(channel) == MANY, within_seconds=10)
    await eventually(lambda: len(provider.sent) == slots)


async def test_a_class_that_is_held_makes_no_further_call_of_what_was_read_before_and_other_classes_go_on(
    tmp_path: Path,
) -> None:
    provider = Gated()
    async with WorkerLab.open(tmp_path) as lab:
        await lab.append(*(a_delivery(number) for number in range(MANY)))
        async with lab.running(provider, concurrency=CONCURRENCY) as channel:
            await filled(lab, channel, provider, slots=SLOTS)

            channel.hold("critical", "directive")
            provider.go_on.set()
            await lab.append(a_delivery(MANY, class_="bulk"), a_delivery(MANY + 1, class_="bulk"))

            # Those that had a call slot, and the other class.
            sent = await lab.until_told("sent", count=SLOTS + 2)
            assert [event.class_ for event in sent].count("bulk") == 2
            assert in_memory(channel) == MANY - SLOTS
            assert len(provider.sent) == SLOTS + 2

            channel.let_go("critical", "directive")
            await lab.until_told("sent", count=MANY + 2)


async def test_what_is_held_is_not_committed(tmp_path: Path) -> None:
    provider = Gated()
    async with WorkerLab.open(tmp_path) as lab:
        await lab.append(*(a_delivery(number) for number in range(MANY)))
        async with lab.running(provider, concurrency=CONCURRENCY) as channel:
            await filled(lab, channel, provider, slots=SLOTS)
            channel.hold("critical", "directive")
            provider.go_on.set()
            await eventually(lambda: in_memory(channel) == MANY - SLOTS)
        assert await committed(lab) == [SLOTS]

        async with lab.running(Provider()):
            sent = await lab.until_told("sent", count=MANY)
        assert len({event.delivery_id for event in sent}) == len(sent) == MANY


async def test_what_was_held_goes_on_in_order(tmp_path: Path) -> None:
    provider = Gated()
    async with WorkerLab.open(tmp_path) as lab:
        in_order = [a_delivery(number, order_key="ana", address=f"https://a/{number}") for number in range(MANY)]
        await lab.append(*in_order)
        async with lab.running(provider, concurrency=CONCURRENCY) as channel:
            await filled(lab, channel, provider, slots=1)
            channel.hold("critical", "directive")
            provider.go_on.set()
            await lab.until_told("sent", count=1)

            channel.let_go("critical", "directive")

            await lab.until_told("sent", count=MANY)
    assert [to for _, to in provider.sent] == [each.address for each in in_order]


async def test_what_expires_while_it_is_held_is_not_sent_late(tmp_path: Path) -> None:
    provider = Gated()
    clock = ManualClock(datetime.now(UTC))
    async with WorkerLab.open(tmp_path) as lab:
        await lab.append(*(a_delivery(number) for number in range(MANY)))
        async with lab.running(provider, concurrency=CONCURRENCY, clock=clock) as channel:
            await filled(lab, channel, provider, slots=SLOTS)
            channel.hold("critical", "directive")
            provider.go_on.set()
            await lab.until_told("sent", count=SLOTS)
            clock.advance(3601)

            channel.let_go("critical", "directive")

            await lab.until_told("expired", count=MANY - SLOTS)
    assert len(provider.sent) == SLOTS


async def test_a_class_that_is_held_for_two_reasons_goes_on_when_the_last_is_let_go(tmp_path: Path) -> None:
    provider = Provider()
    async with WorkerLab.open(tmp_path) as lab, lab.running(provider) as channel:
        channel.hold("critical", "brake")
        channel.hold("critical", "directive")
        await lab.append(a_delivery(), a_delivery(MANY, class_="bulk"))

        channel.let_go("critical", "brake")
        channel.let_go("critical", "brake")
        channel.let_go("standard", "directive")

        [sent] = await lab.until_told("sent")
        assert sent.class_ == "bulk"
        assert {*channel.holds("critical")} == {"directive"}
        channel.let_go("critical", "directive")
        await lab.until_told("sent", count=2)


async def test_what_waits_for_a_callee_is_held_as_well_and_holds_up_no_other_class(tmp_path: Path) -> None:
    """The queue of a host that is busy: what is held leaves it, and what stands behind goes on."""
    provider = Gated()
    async with WorkerLab.open(tmp_path) as lab:
        await lab.append(*(a_delivery(number) for number in range(MANY)))
        async with lab.running(provider, concurrency=CONCURRENCY) as channel:
            await filled(lab, channel, provider, slots=SLOTS)
            waiting = channel._dispatch._waiting._queues
            await eventually(lambda: waiting.total() == MANY - SLOTS)
            await lab.append(a_delivery(MANY, class_="bulk"))
            await eventually(lambda: waiting.total() == MANY - SLOTS + 1)

            channel.hold("critical", "directive")
            provider.go_on.set()

            await eventually(lambda: in_memory(channel, "bulk") == 0 and len(provider.sent) == SLOTS + 1)
            assert in_memory(channel) == MANY - SLOTS
            channel.let_go("critical", "directive")
            await lab.until_told("sent", count=MANY + 1)


async def test_what_waits_for_another_workers_claim_is_held_as_well(tmp_path: Path) -> None:
    provider = Provider()
    delivery = a_delivery()
    async with WorkerLab.open(tmp_path) as lab, lab.ledger("other") as other:
        ask = Claim(source=Source(1, 0), owner=other.owner, token=1, lease_seconds=60.0, provider="a", may_repeat=True)
        await other.claim(delivery.id, ask)
        await lab.append(delivery)
        async with lab.running(provider) as channel:
            await eventually(lambda: in_memory(channel) == 1)
            channel.hold("critical", "directive")
            put_by = channel._dispatch._waiting._held["critical"]
            await eventually(lambda: len(put_by) == 1)

            await other.release(delivery.id, owner=ask.owner, token=ask.token)
            await lab.append(a_delivery(1, class_="bulk"))
            await lab.until_told("sent")
            assert len(provider.sent) == 1

            channel.let_go("critical", "directive")
            await lab.until_told("sent", count=2)


async def test_a_channel_that_is_paused_calls_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    provider = Gated()
    async with WorkerLab.open(tmp_path) as lab:
        await lab.append(*(a_delivery(number) for number in range(MANY)))
        async with lab.running(provider, concurrency=CONCURRENCY) as channel:
            await filled(lab, channel, provider, slots=SLOTS)
            channel.pause("directive")
            provider.go_on.set()
            await lab.append(a_delivery(MANY, class_="bulk"))
            await lab.until_told("sent", count=SLOTS)
            assert len(provider.sent) == SLOTS

            channel.resume("directive")

            await lab.until_told("sent", count=MANY + 1)


def is_called_at(channel: WorkerChannel, per_second: float | None) -> Callable[[], bool]:
    """Whether the share of the provider's rate that this worker has is so much."""
    return lambda: channel._guard._providers["a"].rate.per_second == per_second


async def test_a_provider_without_a_rate_can_be_slowed_down_and_be_let_go_again(tmp_path: Path) -> None:
    """No partition was counted before: there was no rate to share."""
    provider = Provider()
    async with WorkerLab.open(tmp_path) as lab, lab.running(provider) as channel:
        await lab.append(a_delivery())
        await lab.until_told("sent")

        channel.throttle("a", 0.5)
        await lab.append(*(a_delivery(number) for number in range(1, MANY)))
        await eventually(is_called_at(channel, 0.5))
        await lab.until_told("sent", count=2)
        assert len(provider.sent) < 10  # At one in two seconds.

        channel.throttle("a", None)
        await lab.until_told("sent", count=MANY)


@pytest.mark.parametrize(("asked", "holds"), [(5.0, 5.0), (50.0, 20.0), (None, 20.0)])
async def test_a_rate_of_the_configuration_stays_where_it_is_lower(
    tmp_path: Path, asked: float | None, holds: float
) -> None:
    async with WorkerLab.open(tmp_path) as lab, lab.running(Provider(), rate_per_second=20.0) as channel:
        await eventually(is_called_at(channel, 20.0))

        channel.throttle("a", 1.0)
        channel.throttle("a", asked)

        assert is_called_at(channel, holds)()


async def test_only_a_provider_of_the_channel_can_be_slowed_down(tmp_path: Path) -> None:
    async with WorkerLab.open(tmp_path) as lab, lab.running(Provider()) as channel:
        with pytest.raises(KeyError):
            channel.throttle("unknown", 1.0)
