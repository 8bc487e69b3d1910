"""Holds the letters of a redrive while it runs, so that no other run redrives them at the same time."""

import asyncio
import logging
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final

import msgspec

from pabal.broker.port import Producer
from pabal.clock import Clock
from pabal.dlq.redrive.claim import Claims, TenantLetters, TopicClaim, claim_record, release_record
from pabal.dlq.redrive.plan import Plan
from pabal.errors import LogUnavailable, RedriveHeld
from pabal.notification import dead_topic
from pabal.tail import Tail

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 0.5


class TopicHold:
    """`take` before the first append, `renew` while it runs (at least every few seconds), `release` at the end."""

    def __init__(
        self, wanted: Collection[TenantLetters], *, claim: TopicClaim, ops: Tail, producer: Producer, clock: Clock
    ) -> None:
        """`claim` says which run holds; its `topic` and `tenant` are filled in. `ops` reads `pabal.ops` whole."""
        self._producer = producer
        self._clock = clock
        self._claims_wanted = [
            msgspec.structs.replace(claim, topic=letters.topic, tenant=letters.tenant) for letters in sorted(wanted)
        ]
        self._claims = Claims()
        self._ops = ops
        self._renew_seconds = claim.lease_seconds / 3
        self._renewed_at = 0.0

    async def take(self, *, stopping: asyncio.Event, on_wait: Callable[[TopicClaim, float], None]) -> None:
        """Claim all the letters. Waits for a former run of the plan that no longer renews, and tells `on_wait` of it.

        Raises RedriveHeld: another plan's run holds some of them, or this plan is running already.
        """
        for wanted in self._claims_wanted:
            await self._wait_for_former_run(wanted, stopping=stopping, on_wait=on_wait)
        try:
            await self._append_claims()
        except RedriveHeld:
            await self.release()
            raise

    async def renew(self) -> None:
        """Keep the claims, if it is time. Raises RedriveHeld when they were lost (this process stood still)."""
        if self._clock.boot_seconds() - self._renewed_at >= self._renew_seconds:
            await self._append_claims()

    async def release(self) -> None:
        """Let go of what is held. What the log cannot be told now ends with the lease."""
        try:
            await self._read()
            held = [wanted.letters for wanted in self._claims_wanted if self._is_own(wanted, self._holder(wanted))]
            if held:
                await self._producer.append([release_record(letters) for letters in held])
        except LogUnavailable as error:
            logger.warning("the claim of this redrive ends with its lease: %s", error)

    async def _append_claims(self) -> None:
        # Two claims may cross in the log. The first holds, and only reading on tells which is first.
        missing = self._claims_wanted
        while missing:
            await self._producer.append([claim_record(wanted) for wanted in self._claims_wanted])
            await self._read()
            holders = [(wanted, self._holder(wanted)) for wanted in self._claims_wanted]
            for wanted, holder in holders:
                if holder is not None and not self._is_own(wanted, holder):
                    raise _held(holder)
            # This claim was appended as the former lease ended: by its record's time, just before that end.
            missing = [wanted for wanted, holder in holders if holder is None]
        self._renewed_at = self._clock.boot_seconds()

    async def _wait_for_former_run(
        self, wanted: TopicClaim, *, stopping: asyncio.Event, on_wait: Callable[[TopicClaim, float], None]
    ) -> None:
        await self._read()
        left = self._claims.seconds_left(wanted.letters, now=self._clock.now())
        while (holder := self._holder(wanted)) is not None and not stopping.is_set():
            seconds = self._claims.seconds_left(wanted.letters, now=self._clock.now())
            if holder.plan != wanted.plan or seconds > left:
                raise _held(holder)
            left = seconds
            on_wait(holder, seconds)
            await asyncio.sleep(min(_LOOK_SECONDS, seconds))
            await self._read()

    async def _read(self) -> None:
        async for record in self._ops.read_on():
            self._claims.take(record)

    def _holder(self, wanted: TopicClaim) -> TopicClaim | None:
        return self._claims.holder(wanted.letters, now=self._clock.now())

    @staticmethod
    def _is_own(wanted: TopicClaim, holder: TopicClaim | None) -> bool:
        return holder is not None and holder.token == wanted.token


async def check_free(plan: Plan, *, ops: Tail, now: datetime) -> None:
    """Whether the plan could begin now. Raises RedriveHeld when another plan's redrive works on letters it may mean."""
    claims = Claims()
    async for record in ops.read_on():
        claims.take(record)
    for letters in sorted(letters_of(plan)):
        holder = claims.holder(letters, now=now)
        if holder is not None and holder.plan != plan.id:
            raise _held(holder)


def letters_of(plan: Plan) -> set[TenantLetters]:
    """What a plan works on: the dead topics that it reads, and the tenants it means (none named: every tenant)."""
    topics = {dead_topic(place.rpartition("/")[0]) for place in plan.ends}
    return {TenantLetters(topic, tenant) for topic in topics for tenant in plan.selection.tenants or ("",)}


def _held(holder: TopicClaim) -> RedriveHeld:
    whose = f" letters of {holder.tenant}" if holder.tenant else ""
    return RedriveHeld(
        f"{holder.by} on {holder.host} redrives{whose} from {holder.topic} already: plan {holder.plan}, "
        f"since {holder.since:%H:%M:%S}. Let it end, or stop it: with Ctrl-C there, or by its cancel over HTTP",
        tenant=holder.tenant,
    )
