"""One delivery, from the record in hand to a stored verdict: the happy path, top to bottom."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import assert_never

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.channels.port import Rendered
from pabal.channels.suppression import suppression_key
from pabal.clock import Clock
from pabal.errors import TemplateError
from pabal.guard import Permit
from pabal.ledger.port import Ledger
from pabal.ledger.protocol import Call, Claim, ClaimAnswer, Decided, Finish, Ghost, Held, Late, Resume, Source
from pabal.notification import Content, Delivery, NotificationClass, TemplateRef
from pabal.outcome import DeadLetter, Expired, Outcome, Park, Unknown, Verdict
from pabal.policy import IDEMPOTENCY_HORIZON, ClassSettings
from pabal.retry import decide, may_call_again
from pabal.runtime import insist
from pabal.worker.carrier import Carrier
from pabal.worker.deed import Deed
from pabal.worker.effects import (
    deed_of,
    kind_of_outcome,
    kind_of_verdict,
    record_of_late_call,
    records_of_lost_calls,
    records_of_verdict,
)
from pabal.worker.errand import Claimed, End, Errand
from pabal.worker.sending import CALL_SLACK_SECONDS, Sender

logger = logging.getLogger(__name__)

LEASE_SLACK_SECONDS = 5.0
"""How much longer than the call's timeout a claim holds: room for the micro-batches around the call."""

HELD_RECHECK_SECONDS = 0.5
"""How soon a claim held elsewhere is asked for again; the far end usually ends long before its lease."""


class Deliverer:
    """Sees deliveries of one channel through to a stored verdict: render → claim → send → decide → finish."""

    def __init__(
        self,
        *,
        carrier: Carrier,
        classes: Mapping[NotificationClass, ClassSettings],
        ledger: Ledger,
        find_template: Callable[[TemplateRef], Awaitable[Content]],
        clock: Clock,
        sender: Sender,
        is_observed: bool = False,
    ) -> None:
        """`is_observed`: each end says what was done (`Deed`)."""
        self._channel = carrier.channel
        self._first = carrier.provider_name
        self._carriers = carrier.by_name
        self._classes = classes
        self._ledger = ledger
        self._find_template = find_template
        self._clock = clock
        self._sender = sender
        self._is_observed = is_observed

    async def call(
        self, delivery: Delivery, *, origin: Record, group: str, permit: Permit | None = None
    ) -> End | Held | None:
        """Call the provider if the ledger allows it: one record, up to a verdict that is stored.

        `permit` names the provider and is told how the call goes; without one there is no guard, and the delivery's
        own provider or the channel's first is called.

        Returns what is still to be told; or that another claim is alive, and when to ask again; or None: there is
        nothing to do, the offset counts.
        """
        content = delivery.content or await self._find_content(delivery.template)
        provider = permit.provider if permit is not None else delivery.provider or self._first
        errand = self._begin(delivery, origin=origin, group=group, provider=provider, permit=permit)
        rendered = self._render(errand, content)
        answer = await self._claim(errand)
        if not isinstance(answer, Call) or rendered is None:
            # A text that cannot be rendered made the claim one with a refusal, and such a claim permits no call.
            return self._end_uncalled(errand, answer)
        if self._outlives_lease(errand):
            return await self._give_back(errand)
        self._note_attempt(errand, answer)
        outcome = await self._sender.send(errand, rendered, self._carriers[provider].provider)
        verdict = self._decide(errand, outcome)
        return await self._finish(errand, outcome, verdict)

    async def refuse(
        self, delivery: Delivery, verdict: Verdict, *, provider: str | None, origin: Record, group: str
    ) -> End | Held | None:
        """Decide without a call: the guard parks a delivery, or its provider is not there. Answers as `call` does.

        `provider` is the provider that the refusal is about. A park beyond the delivery's expiry is the expiry.
        """
        known = provider if provider is not None and provider in self._carriers else self._first
        errand = self._begin(delivery, origin=origin, group=group, provider=known)
        errand.refusal = Expired() if isinstance(verdict, Park) and verdict.due >= delivery.expires_at else verdict
        gone = provider if provider != known else None
        return self._end_uncalled(errand, await self._claim(errand, gone=gone))

    def _begin(
        self, delivery: Delivery, *, origin: Record, group: str, provider: str, permit: Permit | None = None
    ) -> Errand:
        return Errand(
            delivery=delivery,
            origin=origin,
            group=group,
            provider=provider,
            permit=permit,
            owner=self._ledger.owner,
            token=self._ledger.new_token(),
            at=self._clock.now(),
            begun_at=self._clock.boot_seconds(),
            attempt=delivery.attempt,
        )

    async def _find_content(self, template: TemplateRef | None) -> Content | TemplateError:
        if template is None:
            return Content()
        try:
            return await insist(lambda: self._find_template(template))
        except TemplateError as error:
            return error

    def _render(self, errand: Errand, content: Content | TemplateError) -> Rendered | None:
        """What the call would say; None: that cannot be said, which is the errand's refusal."""
        if isinstance(content, TemplateError):
            errand.refusal = DeadLetter(error_class="template", message=str(content))
            return None
        try:
            return self._channel.render(errand.delivery, content)
        except MemoryError:
            raise
        except Exception as error:
            # The API would not have accepted this content: another program wrote the record. To render is pure, and a
            # mail library has many ways to fail.
            errand.refusal = DeadLetter(error_class="unrenderable", message=str(error) or type(error).__name__)
            return None

    async def _claim(self, errand: Errand, *, gone: str | None = None) -> ClaimAnswer:
        """Ask the ledger for the call. `gone`: the provider that it is about is not configured any more."""
        delivery = errand.delivery
        provider = self._carriers[errand.provider].provider
        kept_until = max(delivery.expires_at + timedelta(days=1), delivery.accepted_at + IDEMPOTENCY_HORIZON)
        ask = Claim(
            source=Source(delivery.attempt, delivery.parks),
            owner=errand.owner,
            token=errand.token,
            lease_seconds=provider.timeout_seconds + LEASE_SLACK_SECONDS,
            provider=gone or errand.provider,
            # What a provider that is gone may have taken cannot be repeated there.
            may_repeat=gone is None
            and may_call_again(
                settings=self._classes[delivery.class_],
                deduplicates_for=provider.deduplicates_for,
                # When a lost call was made is not known; at the earliest:
                first_called_at=delivery.first_failed_at or delivery.send_at or delivery.accepted_at,
                now=errand.at,
            ),
            refusal=Expired() if errand.at >= delivery.expires_at else errand.refusal,
            prune_after=kept_until.timestamp(),
            recipient=suppression_key(tenant=delivery.tenant, channel=delivery.channel, address=delivery.address),
        )
        try:
            return await insist(lambda: self._ledger.claim(delivery.id, ask))
        except asyncio.CancelledError:
            # The claim may have been given. Nothing was called, so no worker need wait for its lease.
            giving_back = asyncio.ensure_future(self._ledger.release(delivery.id, owner=ask.owner, token=ask.token))
            giving_back.add_done_callback(_note_failure)
            raise

    def _outlives_lease(self, errand: Errand) -> bool:
        """Whether a call begun now could outlast its claim (the process was stopped, or the ledger slow)."""
        return self._clock.boot_seconds() - errand.begun_at > LEASE_SLACK_SECONDS - CALL_SLACK_SECONDS

    async def _give_back(self, errand: Errand) -> Held:
        """Give the claim back uncalled, and ask again at once."""
        await insist(lambda: self._ledger.release(errand.delivery.id, owner=errand.owner, token=errand.token))
        return Held(seconds=0.0)

    def _note_attempt(self, errand: Errand, answer: Call) -> None:
        """A lost call may have been taken: the attempt that follows it is bound to the same provider."""
        if answer.attempt != errand.attempt:
            errand.lost = range(errand.attempt, answer.took_over + 1)
            errand.attempt = answer.attempt
            errand.delivery = _bound(errand.delivery, errand.provider, attempt=answer.attempt)

    def _decide(self, errand: Errand, outcome: Outcome) -> Verdict:
        verdict = decide(
            errand.delivery,
            outcome,
            settings=self._classes[errand.delivery.class_],
            deduplicates_for=self._carriers[errand.provider].provider.deduplicates_for,
            now=errand.at,
        )
        if isinstance(outcome, Unknown):
            errand.delivery = _bound(errand.delivery, errand.provider, attempt=errand.attempt)
        return verdict

    async def _finish(self, errand: Errand, outcome: Outcome, verdict: Verdict) -> End:
        """Store how the call ended; what is to be told follows from the verdict that holds."""
        delivery = errand.delivery
        finish = Finish(
            attempt=errand.attempt, owner=errand.owner, token=errand.token, outcome=outcome, verdict=verdict
        )
        match await insist(lambda: self._ledger.finish(delivery.id, finish)):
            case Decided(attempt=attempt, verdict=holds):
                # The verdict of another attempt (a late acceptance) is not told in this call's words.
                own = outcome if attempt == errand.attempt else None
                errand.attempt = attempt
                return self._end(errand, holds, outcome=own)
            case Late():
                return self._end_late(errand, outcome)
            case _ as never:
                assert_never(never)

    def _end_uncalled(self, errand: Errand, answer: ClaimAnswer) -> End | Held | None:
        """What follows a claim that permitted nothing."""
        match answer:
            case Resume(attempt=attempt, verdict=verdict, outcome=outcome, owner=owner, token=token, provider=provider):
                errand.at = self._clock.now()
                errand.lost = range(errand.attempt, attempt)
                errand.attempt, errand.owner, errand.token = attempt, owner, token
                if provider is not None:
                    errand.provider = provider
                    errand.delivery = _bound(errand.delivery, provider, attempt=errand.delivery.attempt)
                return self._end(errand, verdict, outcome=outcome)
            case Held(seconds=seconds, provider=provider):
                return Held(seconds=min(seconds, HELD_RECHECK_SECONDS), provider=provider)
            case Ghost():
                return None
            case Call():
                raise AssertionError(f"{answer} for a claim that carried a refusal")
            case _ as never:
                assert_never(never)

    def _end(self, errand: Errand, verdict: Verdict, *, outcome: Outcome | None) -> End:
        """`outcome` is what the call of the verdict's attempt came to, if that is known."""
        deed = deed_of(errand, kind_of_verdict(verdict, outcome), verdict=verdict) if self._is_observed else None
        records = records_of_verdict(errand, verdict, outcome=outcome)
        return _as_end(errand, records, deed)

    def _end_late(self, errand: Errand, outcome: Outcome) -> End:
        """Another worker took the call over and decides: there is an event of this call, and no verdict."""
        deed = deed_of(errand, kind_of_outcome(outcome), verdict=None) if self._is_observed else None
        return _as_end(errand, [record_of_late_call(errand, outcome)], deed)


def _as_end(errand: Errand, records: list[NewRecord], deed: Deed | None) -> End:
    if errand.lost:
        records += records_of_lost_calls(errand)
    claim = Claimed(delivery=errand.delivery.id, owner=errand.owner, token=errand.token)
    return End(records=records, claim=claim, deed=deed)


def _bound(delivery: Delivery, provider: str, *, attempt: int) -> Delivery:
    """The delivery as `attempt`, which no other provider may carry from now on: this one may have taken it."""
    return msgspec.structs.replace(delivery, attempt=attempt, provider=provider)


def _note_failure(giving_back: "asyncio.Future[None]") -> None:
    if not giving_back.cancelled() and (error := giving_back.exception()) is not None:
        logger.warning("a claim could not be given back, its lease has to end: %s", error)
