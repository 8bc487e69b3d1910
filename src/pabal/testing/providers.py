"""The laws of a provider as a test class that every one passes: the webhook's, SMTP's, yours.

Subclass `ProviderContract` in a test module, hand it a `FarSide` to talk to, and pytest (with pytest-asyncio in
auto mode) runs every law. docs/providers.md and examples/pabal-provider-logfile show whole ones.
"""

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import ClassVar, assert_never

import pytest

from pabal.channels.port import Rendered
from pabal.errors import ReceiptRefused
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected, Unknown
from pabal.providers.port import CallbackRequest, ChecksConnection, KnowsHosts, Provider, TakesReceipts

_RESPONSE_BYTES = 2048


class FarSide(ABC):
    """The other end, and how a law makes it behave; give it a real socket, file or device."""

    to: str
    """An address of it, in the channel's canonical form."""

    tenant: str = "acme"
    rendered: Rendered = Rendered(subject="Hello", body='{"text":"Hello"}')

    timeout_seconds: float = 0.5
    """What `connect` gives a provider as its timeout; a law that needs patience raises it before it connects."""

    can_hang: ClassVar[bool] = True
    """Whether it can take a request and never answer. Where it cannot, the laws about that are skipped."""

    @abstractmethod
    def connect(self) -> Provider:
        """A new provider that talks to it, with `timeout_seconds`. The law closes it."""

    @abstractmethod
    async def accept(self) -> None:
        """From now on it takes everything. The state in which a law finds it."""

    @abstractmethod
    async def refuse(self) -> None:
        """From now on it can be reached and says that it does not take what comes."""

    @abstractmethod
    async def hang(self) -> None:
        """From now on it reads whole requests and does not answer."""

    @abstractmethod
    async def vanish(self) -> None:
        """From now on it cannot be reached, so nothing can be handed over, until `accept`."""

    @abstractmethod
    def arrived(self) -> Sequence[str]:
        """The idempotency keys of the requests that arrived whole, refused and unanswered ones too, in order."""

    def callback(self) -> CallbackRequest | None:
        """A genuine callback that reports something, as it posts one now; None: it posts none, or the provider takes
        none. Then the laws of receipts are skipped."""
        return None


class ProviderContract(ABC):
    """What `pabal.providers.port.Provider` promises, law by law."""

    margin_seconds: ClassVar[float] = 2.0
    """How much longer than its `timeout_seconds` a provider may take on a machine that is busy with tests."""

    @abstractmethod
    def far_side(self) -> AbstractAsyncContextManager[FarSide]:
        """A new far side, accepting, for one law."""

    @pytest.fixture
    async def far(self) -> AsyncIterator[FarSide]:
        """The far side of this law."""
        async with self.far_side() as far:
            yield far

    @pytest.fixture
    async def provider(self, far: FarSide) -> AsyncIterator[Provider]:
        """A provider that has not been used."""
        provider = far.connect()
        yield provider
        await provider.close()

    async def test_it_says_what_it_carries_and_what_can_be_relied_on(self, provider: Provider) -> None:
        """The worker reads these before any call."""
        assert provider.channel
        assert 0 < provider.timeout_seconds < math.inf
        assert provider.deduplicates_for is None or provider.deduplicates_for > timedelta(0)

    async def test_what_is_taken_is_accepted(self, far: FarSide, provider: Provider) -> None:
        """And it is handed over under its key."""
        outcome = await self._send(far, provider, key="key-1")

        assert isinstance(outcome, Accepted)
        assert far.arrived() == ["key-1"]

    async def test_a_refusal_is_an_outcome_and_a_known_one(self, far: FarSide, provider: Provider) -> None:
        """Whether it is final, for later or our own fault is the provider's to say; unknown it is not."""
        await far.refuse()

        outcome = await self._send(far, provider, key="key-1")

        assert isinstance(outcome, Deferred | Rejected | Misconfigured)

    async def test_after_refusals_it_works_on(self, far: FarSide, provider: Provider) -> None:
        """A refusal leaves nothing behind that spoils the next call."""
        await far.refuse()
        await self._send(far, provider, key="key-1")
        await far.accept()

        assert isinstance(await self._send(far, provider, key="key-2"), Accepted)

    async def test_no_answer_is_unknown_and_in_time(self, far: FarSide, provider: Provider) -> None:
        """The worker's claim is made for `timeout_seconds`; after it another worker may call."""
        await _hang(far)

        outcome = await self._send(far, provider, key="key-1")

        assert isinstance(outcome, Unknown)

    async def test_after_a_call_without_an_answer_it_works_on(self, far: FarSide, provider: Provider) -> None:
        """A late answer to one call must not be taken for the next one's."""
        await _hang(far)
        await self._send(far, provider, key="key-1")
        await far.accept()

        assert isinstance(await self._send(far, provider, key="key-2"), Accepted)

    async def test_nobody_there_is_never_unknown(self, far: FarSide) -> None:
        """Nothing can have been handed over, so saying `Unknown` would cost a resend or a dead letter."""
        await far.vanish()
        provider = far.connect()

        try:
            outcome = await self._send(far, provider, key="key-1")
        finally:
            await provider.close()

        assert isinstance(outcome, Deferred | Misconfigured)
        assert far.arrived() == []

    async def test_when_the_far_side_comes_back_it_works_on(self, far: FarSide, provider: Provider) -> None:
        """Without being made anew. (The call while it was gone may be unknown, if a connection was kept.)"""
        await self._send(far, provider, key="key-1")
        await far.vanish()
        assert not isinstance(await self._send(far, provider, key="key-2"), Accepted)
        await far.accept()

        assert isinstance(await self._send(far, provider, key="key-3"), Accepted)

    async def test_concurrent_calls_are_independent(self, far: FarSide) -> None:
        """Each gets its own answer."""
        far.timeout_seconds = 10.0
        provider = far.connect()
        keys = [f"key-{number}" for number in range(25)]

        outcomes = await asyncio.gather(*(self._send(far, provider, key=key) for key in keys))
        await provider.close()

        assert [type(outcome) for outcome in outcomes] == [Accepted] * len(keys)
        assert sorted(far.arrived()) == sorted(keys)

    async def test_a_call_that_hangs_holds_up_no_other(self, far: FarSide) -> None:
        """One dead recipient among many is the normal case."""
        await _hang(far)
        far.timeout_seconds = 10.0
        provider = far.connect()
        hanging = asyncio.create_task(self._send(far, provider, key="key-1"))
        await _eventually(lambda: "key-1" in far.arrived())
        await far.accept()

        outcome = await self._send(far, provider, key="key-2")

        assert isinstance(outcome, Accepted)
        assert not hanging.done()

        hanging.cancel()
        await asyncio.wait([hanging])
        await provider.close()

    async def test_a_cancelled_call_leaves_it_usable(self, far: FarSide, provider: Provider) -> None:
        """A worker that drains cancels what is still under way, and cancellation is not swallowed."""
        await _hang(far)
        call = asyncio.create_task(self._send(far, provider, key="key-1"))
        await _eventually(lambda: "key-1" in far.arrived())

        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

        await far.accept()
        assert isinstance(await self._send(far, provider, key="key-2"), Accepted)

    async def test_a_second_call_with_the_same_key_carries_the_same_key(self, far: FarSide, provider: Provider) -> None:
        """The far side can only recognise what is the same, so the provider changes nothing of it.

        A far side that deduplicates by itself may count the two as one.
        """
        outcomes = [await self._send(far, provider, key="key-1") for _ in range(2)]

        assert [type(outcome) for outcome in outcomes] == [Accepted, Accepted]
        assert set(far.arrived()) == {"key-1"}

    async def test_a_callback_is_read_the_same_each_time(self, far: FarSide, provider: Provider) -> None:
        """Far sides repeat their callbacks; what comes twice is known by its id."""
        receiver, callback = _receiving(far, provider)

        first, again = receiver.receipts(callback), receiver.receipts(callback)

        assert first
        assert list(first) == list(again)
        assert len({receipt.id for receipt in first}) == len(first)

    async def test_a_receipt_names_what_it_speaks_of(self, far: FarSide, provider: Provider) -> None:
        """By our key or by the far side's own, and when it was."""
        receiver, callback = _receiving(far, provider)

        for receipt in receiver.receipts(callback):
            assert receipt.delivery_id is not None or receipt.provider_id
            assert receipt.at.tzinfo is not None
            assert receipt.provider

    async def test_a_callback_that_proves_nothing_is_refused(self, far: FarSide, provider: Provider) -> None:
        """A forged receipt could suppress any address."""
        receiver, callback = _receiving(far, provider)
        forgeries = (
            CallbackRequest(headers={}, body=callback.body),
            CallbackRequest(headers=callback.headers, body=callback.body + b" "),
        )

        for forgery in forgeries:
            with pytest.raises(ReceiptRefused):
                receiver.receipts(forgery)

    async def test_a_check_hands_nothing_over_and_tells_what_it_found(self, far: FarSide, provider: Provider) -> None:
        """An operator may ask at any time, also of a provider that carries traffic."""
        checked = await self._check_connection(provider)

        assert isinstance(checked, Accepted)
        assert checked.response
        assert list(far.arrived()) == []

        outcome = await self._send(far, provider, key="key-1")

        assert isinstance(outcome, Accepted)

    async def test_a_check_of_what_is_not_there_says_so(self, far: FarSide, provider: Provider) -> None:
        """Of a provider whose addresses are answered by many hosts there is no such thing."""
        if isinstance(provider, KnowsHosts):
            pytest.skip("it has no one far side")
        await far.vanish()

        checked = await self._check_connection(provider)

        assert isinstance(checked, Deferred | Misconfigured)

    async def _check_connection(self, provider: Provider) -> Accepted | Deferred | Misconfigured:
        if not isinstance(provider, ChecksConnection):
            pytest.skip("this provider cannot be checked without a delivery")
        async with asyncio.timeout(provider.timeout_seconds + self.margin_seconds):
            checked = await provider.check()
        _check(checked)
        return checked

    async def test_closing_is_idempotent(self, far: FarSide) -> None:
        """Used or not: a program that stops closes everything, and some of it twice."""
        unused, used = far.connect(), far.connect()
        await self._send(far, used, key="key-1")

        for provider in (unused, used):
            await provider.close()
            await provider.close()

    async def _send(self, far: FarSide, provider: Provider, *, key: str) -> Outcome:
        """Send once; fails if that raises, takes too long, or answers more than may be kept."""
        limit = provider.timeout_seconds + self.margin_seconds
        try:
            async with asyncio.timeout(limit) as deadline:
                outcome = await provider.send(far.rendered, to=far.to, tenant=far.tenant, idempotency_key=key)
        except TimeoutError:
            if deadline.expired():
                pytest.fail(f"send did not answer within its timeout of {provider.timeout_seconds} s")
            raise
        _check(outcome)
        return outcome


def _check(outcome: Outcome) -> None:
    """An outcome ends in an event: it must say something, and no more than fits."""
    match outcome:
        case Accepted(response=response):
            reason = "accepted"
        case Deferred(reason=reason, response=response, retry_after_seconds=seconds):
            assert seconds is None or 0 <= seconds < math.inf
        case Rejected(reason=reason, response=response) | Misconfigured(reason=reason, response=response):
            pass
        case Unknown(reason=reason):
            response = None
        case _:
            assert_never(outcome)
    assert reason
    assert len((response or "").encode()) <= _RESPONSE_BYTES


def _receiving(far: FarSide, provider: Provider) -> tuple[TakesReceipts, CallbackRequest]:
    callback = far.callback()
    if callback is None:
        pytest.skip("this far side posts no callbacks")
    assert isinstance(provider, TakesReceipts)
    return provider, callback


async def _hang(far: FarSide) -> None:
    if not far.can_hang:
        pytest.skip("this far side cannot hang")
    await far.hang()


async def _eventually(predicate: Callable[[], object], *, within_seconds: float = 5.0) -> None:
    """Return once `predicate()` is true: the far side learns of a request a little after it was sent."""
    deadline = asyncio.get_running_loop().time() + within_seconds
    while not predicate():
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"the request did not arrive within {within_seconds} s")
        await asyncio.sleep(0.005)
