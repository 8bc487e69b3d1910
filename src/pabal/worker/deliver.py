"""One delivery, from the record in hand to the last record about it: the happy path, top to bottom."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, assert_never
from uuid import UUID

import msgspec

from pabal.broker.port import NewRecord, Producer, Record
from pabal.channels.port import Channel, Rendered
from pabal.clock import Clock
from pabal.codec import cut_record, event_record
from pabal.errors import RecordRefused, TemplateError
from pabal.guard import Permit
from pabal.ledger.port import Ledger
from pabal.ledger.protocol import Call, Claim, ClaimAnswer, Decided, Finish, Ghost, Held, Late, Resume, Source
from pabal.notification import Content, Delivery, NotificationClass, TemplateRef, suppression_key
from pabal.outcome import Accepted, DeadLetter, Deferred, Expired, Outcome, Park, Unknown, Verdict
from pabal.policy import IDEMPOTENCY_HORIZON, ClassSettings
from pabal.providers.port import Provider
from pabal.retry import decide, may_call_again
from pabal.runtime import insist
from pabal.tracing.context import Trace
from pabal.tracing.port import Tracing
from pabal.worker.effects import Told, event_of, kind_of_outcome, records_of_verdict

logger = logging.getLogger(__name__)

LEASE_SLACK_SECONDS = 5.0
"""How much longer than the call's timeout a claim holds: room for the micro-batches around the call."""

HELD_RECHECK_SECONDS = 0.5
"""How soon a claim held elsewhere is asked for again; the far end usually ends long before its lease."""

_CALL_SLACK_SECONDS = 1.0
"""How much longer than its own timeout a provider may take before its call is ended."""

_STILL_SECONDS = 3.0
"""Between two looks at the calls that are a second apart: longer, and it is this process that did not run."""


_encode = msgspec.json.Encoder().encode


class Carrier(msgspec.Struct, frozen=True, kw_only=True):
    """How one channel is carried: what it can say, who carries it, and under which configured name.

    `others` are the channel's further providers; `weight` is this one's part among them. `rate_per_second`: how many
    calls it may be given (None: any number), by all workers together.
    """

    channel: Channel
    provider: Provider
    provider_name: str
    weight: int = 1
    rate_per_second: float | None = None
    others: tuple["Carrier", ...] = ()

    @property
    def by_name(self) -> Mapping[str, "Carrier"]:
        """This one and the others."""
        return {each.provider_name: each for each in (self, *self.others)}


class End(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Records still to be appended, and the claim that is settled by that (bytes nobody can read have none)."""

    records: Sequence[NewRecord]
    claim: "Claimed | None" = None


class Claimed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Names a claim."""

    delivery: UUID
    owner: int
    token: int


class _Trip(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who carries a delivery this time, with whose permission, and the record that it came from."""

    carrier: Carrier
    permit: Permit | None
    origin: Record
    group: str


class Deliverer:
    """Sees deliveries of one channel through: claim → send → decide → finish (`call`), append → settle (`tell`)."""

    def __init__(
        self,
        *,
        carrier: Carrier,
        classes: Mapping[NotificationClass, ClassSettings],
        ledger: Ledger,
        producer: Producer,
        find_template: Callable[[TemplateRef], Awaitable[Content]],
        clock: Clock,
        tracing: Tracing | None = None,
    ) -> None:
        self._channel = carrier.channel
        self._carrier = carrier
        self._carriers = carrier.by_name
        self._classes = classes
        self._ledger = ledger
        self._producer = producer
        self._find_template = find_template
        self._clock = clock
        self._tracing = tracing
        # A timer for each call would cost more than looking at all of them once a second.
        self._sending: dict[asyncio.Task[Any], float] = {}
        self._watched_at: float | None = None
        self._stood_still_until = 0.0

    async def call(
        self, delivery: Delivery, *, origin: Record, group: str, permit: Permit | None = None
    ) -> "End | Held | None":
        """Claim, call, decide, finish: one record, up to a verdict that is stored.

        `permit` names the provider and is told how the call goes; without one there is no guard, and the delivery's
        own provider or the channel's first is called.

        Returns what is still to be appended; or that another claim is alive, and when to ask again; or None: there is
        nothing to do, the offset counts.
        """
        name = permit.provider if permit is not None else delivery.provider
        carrier = self._carriers[name] if name is not None else self._carrier
        trip = _Trip(carrier=carrier, permit=permit, origin=origin, group=group)
        rendered = self._render(delivery, delivery.content or await self._content_of(delivery.template))
        asked_at = self._clock.boot_seconds()
        ask = self._claim(delivery, carrier=carrier, refusal=rendered if isinstance(rendered, DeadLetter) else None)
        match await self._insist_on_claim(delivery.id, ask):
            case Call(attempt=attempt, took_over=took_over) if isinstance(rendered, Rendered):
                if self._outlives_lease(asked_at, carrier=carrier):
                    await insist(lambda: self._ledger.release(delivery.id, owner=ask.owner, token=ask.token))
                    return Held(seconds=0.0)
                called = delivery if attempt == delivery.attempt else _pinned(delivery, ask.provider, attempt=attempt)
                is_traced = self._tracing is not None or delivery.traceparent is not None
                send = self._send_traced if is_traced else self._send
                outcome, told = await send(called, rendered, trip)
                records = await self._finish(called, outcome, ask=ask, trip=trip, told=told)
                records += self._closed_as_unknown(delivery, up_to=took_over + 1, told=told)
                return End(records=records, claim=Claimed(delivery=delivery.id, owner=ask.owner, token=ask.token))
            case answer:
                return self._without_call(delivery, answer, trip)

    async def refuse(
        self, delivery: Delivery, verdict: Verdict, *, provider: str | None, origin: Record, group: str
    ) -> "End | Held | None":
        """Decide without a call: the guard parks a delivery, or nobody is there to carry it. Answers as `call` does.

        `provider` is whose refusal it is. A park beyond the delivery's expiry is the expiry.
        """
        if isinstance(verdict, Park) and verdict.due >= delivery.expires_at:
            verdict = Expired()
        carrier = self._carriers.get(provider or "", self._carrier)
        ask = self._claim(delivery, carrier=carrier, refusal=verdict)
        if provider is not None and provider not in self._carriers:
            # What a provider may have taken that is gone, nobody can repeat there.
            ask = msgspec.structs.replace(ask, provider=provider, may_repeat=False)
        trip = _Trip(carrier=carrier, permit=None, origin=origin, group=group)
        return self._without_call(delivery, await self._insist_on_claim(delivery.id, ask), trip)

    def _without_call(self, delivery: Delivery, answer: ClaimAnswer, trip: _Trip) -> "End | Held | None":
        """What follows a claim that permitted nothing."""
        match answer:
            case Resume(attempt=attempt, verdict=verdict, outcome=outcome, owner=owner, token=token, provider=provider):
                told = self._told(trip)
                if provider is not None:
                    told = msgspec.structs.replace(told, provider=provider)
                    delivery = _pinned(delivery, provider, attempt=delivery.attempt)
                records = records_of_verdict(delivery, verdict, attempt=attempt, outcome=outcome, told=told)
                records += self._closed_as_unknown(delivery, up_to=attempt, told=told)
                return End(records=records, claim=Claimed(delivery=delivery.id, owner=owner, token=token))
            case Held(seconds=seconds, provider=provider):
                return Held(seconds=min(seconds, HELD_RECHECK_SECONDS), provider=provider)
            case Ghost():
                return None
            case Call():
                raise AssertionError(f"{answer} for a claim that carried a refusal")
            case _ as never:
                assert_never(never)

    async def tell(self, ends: "Sequence[End]") -> None:
        """Append what the ends mean; from then on everything about their records is in the log: their offsets count."""
        records = [record for end in ends for record in end.records]
        try:
            await insist(lambda: self._producer.append(records))
        except RecordRefused as error:
            if len(ends) > 1:
                for end in ends:
                    await self.tell([end])
                return
            logger.error("cut short what the log does not take: %s", error)
            cut = [cut_record(record) for record in records]
            await insist(lambda: self._producer.append(cut))
        for end in ends:
            if end.claim is not None:
                self._ledger.settle(end.claim.delivery, owner=end.claim.owner, token=end.claim.token)

    async def _insist_on_claim(self, delivery: UUID, ask: Claim) -> ClaimAnswer:
        try:
            return await insist(lambda: self._ledger.claim(delivery, ask))
        except asyncio.CancelledError:
            # The claim may have been given; nothing was called, so nobody need wait for its lease.
            giving_back = asyncio.ensure_future(self._ledger.release(delivery, owner=ask.owner, token=ask.token))
            giving_back.add_done_callback(_note_failure)
            raise

    def cancel_overdue(self) -> None:
        """End calls whose provider did not keep its own timeout. To be called once a second.

        When that was not done for longer, this process stood still (it was stopped, or the machine slept).
        """
        now = self._clock.boot_seconds()
        if self._stands_still(now):
            self._stood_still_until = now
        self._watched_at = now
        for task in [task for task, overdue_at in self._sending.items() if now > overdue_at]:
            del self._sending[task]
            task.cancel()

    async def _content_of(self, template: TemplateRef | None) -> Content | TemplateError:
        if template is None:
            return Content()
        try:
            return await insist(lambda: self._find_template(template))
        except TemplateError as error:
            return error

    def _render(self, delivery: Delivery, content: Content | TemplateError) -> Rendered | DeadLetter:
        if isinstance(content, TemplateError):
            return DeadLetter(error_class="template", message=str(content))
        try:
            return self._channel.render(delivery, content)
        except MemoryError:
            raise
        except Exception as error:
            # Content that the API would not have accepted, from a record of somebody else's: to render it is pure, and
            # a mail library has many ways to fail.
            return DeadLetter(error_class="unrenderable", message=str(error) or type(error).__name__)

    def _claim(self, delivery: Delivery, *, carrier: Carrier, refusal: Verdict | None) -> Claim:
        now = self._clock.now()
        kept_until = max(delivery.expires_at + timedelta(days=1), delivery.accepted_at + IDEMPOTENCY_HORIZON)
        return Claim(
            source=Source(delivery.attempt, delivery.parks),
            owner=self._ledger.owner,
            token=self._ledger.new_token(),
            lease_seconds=carrier.provider.timeout_seconds + LEASE_SLACK_SECONDS,
            provider=carrier.provider_name,
            may_repeat=may_call_again(
                settings=self._classes[delivery.class_],
                deduplicates_for=carrier.provider.deduplicates_for,
                # Of a call that was never heard of again nobody knows when it was; at the earliest:
                first_called_at=delivery.first_failed_at or delivery.send_at or delivery.accepted_at,
                now=now,
            ),
            refusal=Expired() if now >= delivery.expires_at else refusal,
            prune_after=kept_until.timestamp(),
            recipient=suppression_key(tenant=delivery.tenant, channel=delivery.channel, address=delivery.address),
        )

    def _outlives_lease(self, asked_at: float, *, carrier: Carrier) -> bool:
        """Whether a call begun now could outlast its claim (the process was stopped, or the ledger slow)."""
        longest_call = carrier.provider.timeout_seconds + _CALL_SLACK_SECONDS
        return (
            self._clock.boot_seconds() + longest_call
            > asked_at + carrier.provider.timeout_seconds + LEASE_SLACK_SECONDS
        )

    async def _send_traced(self, delivery: Delivery, rendered: Rendered, trip: _Trip) -> tuple[Outcome, Told]:
        """`_send` as a part of the delivery's trace; where nobody traces, the caller's trace goes on as it came."""
        if self._tracing is None:
            passed_on = Trace.read(delivery.traceparent, delivery.tracestate)
            carrying = msgspec.structs.replace(
                rendered, traceparent=passed_on.traceparent, tracestate=passed_on.tracestate
            )
            return await self._send(delivery, carrying, trip)
        span = self._tracing.send(
            delivery,
            attempt=delivery.attempt,
            provider=trip.carrier.provider_name,
            origin=trip.origin,
            group=trip.group,
        )
        outcome: Outcome | None = None
        try:
            carrying = msgspec.structs.replace(rendered, traceparent=span.traceparent, tracestate=span.tracestate)
            outcome, told = await self._send(delivery, carrying, trip)
        finally:
            span.end(outcome)
        return outcome, told

    async def _send(self, delivery: Delivery, rendered: Rendered, trip: _Trip) -> tuple[Outcome, Told]:
        provider, name, permit = trip.carrier.provider, trip.carrier.provider_name, trip.permit
        began = self._clock.boot_seconds()
        task = asyncio.current_task()
        assert task is not None
        self._sending[task] = began + provider.timeout_seconds + _CALL_SLACK_SECONDS
        if permit is not None:
            permit.call(began)
        outcome: Outcome
        try:
            outcome = _storable(
                await provider.send(
                    rendered, to=delivery.address, tenant=delivery.tenant, idempotency_key=delivery.idempotency_key
                )
            )
        except asyncio.CancelledError:
            if task in self._sending:
                raise
            task.uncancel()
            outcome = Unknown(reason="the provider did not keep its own timeout")
        except Exception as error:
            # A defect of the provider's code: what became of the call is not known, and that is what we say.
            logger.exception("provider %s failed on delivery %s", name, delivery.id)
            outcome = Unknown(reason=f"{type(error).__name__} in provider {name}")
        finally:
            self._sending.pop(task, None)
        ended = self._clock.boot_seconds()
        if permit is not None and not (_is_silence(outcome) and self._stood_still(since=began, now=ended)):
            permit.end(outcome, ended)
        return outcome, self._told(trip, latency_seconds=ended - began)

    def _stood_still(self, *, since: float, now: float) -> bool:
        """Whether this process did: then silence is not the far side's, and the guard is told nothing of it."""
        return since <= self._stood_still_until or self._stands_still(now)

    def _stands_still(self, now: float) -> bool:
        return self._watched_at is not None and now - self._watched_at > _STILL_SECONDS

    async def _finish(
        self, delivery: Delivery, outcome: Outcome, *, ask: Claim, trip: _Trip, told: Told
    ) -> list[NewRecord]:
        """Store how the call ended; what is to be appended follows from the verdict that holds."""
        verdict = decide(
            delivery,
            outcome,
            settings=self._classes[delivery.class_],
            deduplicates_for=trip.carrier.provider.deduplicates_for,
            now=told.at,
        )
        if isinstance(outcome, Unknown):
            delivery = _pinned(delivery, ask.provider, attempt=delivery.attempt)
        end = Finish(attempt=delivery.attempt, owner=ask.owner, token=ask.token, outcome=outcome, verdict=verdict)
        match await insist(lambda: self._ledger.finish(delivery.id, end)):
            case Decided(attempt=attempt, verdict=verdict):
                # The verdict of another attempt (a late acceptance) is not told in this call's words.
                own = outcome if attempt == delivery.attempt else None
                return records_of_verdict(delivery, verdict, attempt=attempt, outcome=own, told=told)
            case Late():
                kind = kind_of_outcome(outcome)
                event = event_of(delivery, kind, attempt=delivery.attempt, outcome=outcome, told=told)
                return [event_record(event)]
            case _ as never:
                assert_never(never)

    def _closed_as_unknown(self, delivery: Delivery, *, up_to: int, told: Told) -> list[NewRecord]:
        """The events of attempts from the record's own on that ended in a takeover; saying so again is harmless."""
        lost = Unknown(reason="the worker was lost during the call")
        return [
            event_record(event_of(delivery, "unknown", attempt=attempt, outcome=lost, told=told))
            for attempt in range(delivery.attempt, up_to)
        ]

    def _told(self, trip: _Trip, *, latency_seconds: float | None = None) -> Told:
        return Told(
            at=self._clock.now(),
            provider=trip.carrier.provider_name,
            origin=trip.origin,
            group=trip.group,
            latency_seconds=latency_seconds,
        )


def _pinned(delivery: Delivery, provider: str, *, attempt: int) -> Delivery:
    """The delivery as `attempt`, which no other may carry from now on: this one may have taken it."""
    return msgspec.structs.replace(delivery, attempt=attempt, provider=provider)


def _is_silence(outcome: Outcome) -> bool:
    return isinstance(outcome, Unknown) or (isinstance(outcome, Deferred) and outcome.response is None)


def _storable(outcome: Outcome) -> Outcome:
    """The provider's answer; what of it cannot be stored (text that is no Unicode, a value of its own) is left out."""
    try:
        _encode(outcome)
    except (ValueError, TypeError):
        return Accepted() if isinstance(outcome, Accepted) else Unknown(reason="the provider's answer is unreadable")
    if not isinstance(outcome, Outcome):
        return Unknown(reason=f"the provider answered with a {type(outcome).__name__}")
    return outcome


def _note_failure(giving_back: "asyncio.Future[None]") -> None:
    if not giving_back.cancelled() and (error := giving_back.exception()) is not None:
        logger.warning("a claim could not be given back, its lease has to end: %s", error)
