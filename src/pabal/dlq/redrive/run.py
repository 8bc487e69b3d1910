"""Carries a plan out: append, confirm, mark; a few letters first, then at a rate; stop when they come back.

Every step can be lost and done again. What was redriven is known from the marks in `pabal.audit`. A crash between the
append and its marks leaves at most one batch to be appended a second time, as the same attempt of the same delivery:
for the ledger that is a copy of a record it has dealt with, and nothing is called twice.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Final

import msgspec

from pabal.audit import AuditFact, audit_id, audit_record
from pabal.broker.port import Producer
from pabal.clock import Clock
from pabal.codec import delivery_record, event_record
from pabal.dlq.letters.deciding import event_of_decision
from pabal.dlq.letters.letter import Letter
from pabal.dlq.letters.marks import REDRIVEN, RESOLVED, Mark, marking_fact
from pabal.dlq.letters.reading import Letters
from pabal.dlq.letters.tails import Tails
from pabal.dlq.redrive.answers import Answers, Tally
from pabal.dlq.redrive.claim import LEASE_SECONDS, TopicClaim
from pabal.dlq.redrive.hold import TopicHold, letters_of
from pabal.dlq.redrive.plan import Plan, judge, redriven_delivery
from pabal.dlq.redrive.stepping import RECENT, Pace, Pause, Send, Step, Stop, TokenBucket, next_step
from pabal.dlq.redrive.surroundings import Surroundings
from pabal.errors import DecodeError, PabalError, RecordRefused, RedriveHeld
from pabal.notification import OPS_TOPIC, Fact
from pabal.runtime import insist

logger = logging.getLogger(__name__)

STARTED: Final = "redrive.started"
ENDED: Final = "redrive.ended"

INTERRUPTED: Final = "interrupted"

_LOOK_SECONDS: Final = 0.25
"""How often the answers are read while there is nothing to send, and how long small batches are gathered."""


class Start(Fact, frozen=True, kw_only=True):
    """The detail of `redrive.started`: the whole plan, and how fast; which run began, and where."""

    plan: Plan
    pace: Pace
    run: str = ""
    host: str = ""


class Ending(Fact, frozen=True, kw_only=True):
    """How a run ended: `completed`, `aborted`, `unanswered`, `cancelled`, `failed`, or `interrupted` from outside, so
    that nothing is decided; `message` says why.

    `tally` counts all that the plan has redriven, in this run and in earlier ones; `resolved` letters were found to
    have been sent after all; `refused` ones are too large for the log by now.
    """

    ended: str
    message: str
    tally: Tally
    resolved: int = 0
    refused: int = 0
    run: str = ""


class Who(msgspec.Struct, frozen=True, kw_only=True):
    """The person that redrives, the host, and the reason. `token` is this run's own; its claim outlives it by
    `lease_seconds`."""

    by: str
    host: str
    reason: str
    token: str
    lease_seconds: float = LEASE_SECONDS


class Watcher:
    """Is told how a redrive goes on; this one takes no notice."""

    def going_on(self, tally: Tally, step: Step) -> None:
        """After every look at the answers."""

    def waiting_for_former_run(self, holder: TopicClaim, seconds: float) -> None:
        """A former run of this plan ended without a word; its claim holds for so long."""


class Redrive:
    """One run of a plan. `run` once."""

    def __init__(
        self,
        letters: Letters,
        plan: Plan,
        *,
        tails: Tails,
        producer: Producer,
        clock: Clock,
        pace: Pace,
        who: Who,
        watcher: Watcher,
    ) -> None:
        self._letters = letters
        self._tails = tails
        self._producer = producer
        self._clock = clock
        self._plan = plan
        self._pace = pace
        self._who = who
        self._watcher = watcher
        self._answers = Answers(recent=RECENT)
        self._appended = 0
        """Letters that this run has redriven itself."""

        self._resolved = 0
        self._refused = 0
        self._stopped = ("cancelled", "stopped by hand; the same command goes on from here")

    def interrupt(self, why: str) -> None:
        """Say that the process is ending: `stopping`, set from now on, is no decision against this redrive."""
        self._stopped = (INTERRUPTED, why)

    async def run(self, stopping: asyncio.Event) -> Ending:
        """Redrive until all is done, `stopping` is set, or it stops by itself; what was begun is marked in any case.

        The start and the end are facts in `pabal.audit`.

        Raises:
            RedriveHeld: another run holds some of the letters.
            LogError: the log failed in a way that waiting does not mend; the end is a fact all the same, if it can be.
        """
        hold = self._hold()
        await hold.take(stopping=stopping, on_wait=self._watcher.waiting_for_former_run)
        try:
            await insist(lambda: self._producer.append([audit_record(self._started())]))
            # While the log is away nothing is lost: begun again, it finds its own marks.
            ending = await insist(lambda: self._redrive(stopping, hold))
        except RedriveHeld as error:
            await self._tell_end(self._ending(INTERRUPTED, f"this process stood still, and lost its claim: {error}"))
            raise
        except PabalError as error:
            await self._tell_end(self._ending("failed", str(error)))
            raise
        else:
            await self._tell_end(ending)
        finally:
            await hold.release()
        return ending

    async def _redrive(self, stopping: asyncio.Event, hold: TopicHold) -> Ending:
        surroundings = await Surroundings.read(
            self._letters,
            self._plan.selection,
            tails=self._tails,
            clock=self._clock,
            ends=self._plan.ends,
            on_fact=self._learn_own_mark,
            on_event=self._answers.take,
        )
        clock = self._clock
        bucket = TokenBucket(per_second=self._pace.per_second, now_seconds=clock.boot_seconds())
        heard_at, is_exhausted = clock.boot_seconds(), False
        async with contextlib.aclosing(self._to_redrive(surroundings)) as letters:
            while True:
                await hold.renew()
                if await surroundings.refresh(on_event=self._answers.take):
                    heard_at = clock.boot_seconds()
                step = next_step(
                    self._pace,
                    total=self._answers.tally(),
                    recent=self._answers.last(),
                    is_exhausted=is_exhausted,
                    silent_seconds=clock.boot_seconds() - heard_at,
                )
                self._watcher.going_on(self._answers.tally(), step)
                match step:
                    case Stop(ended="completed") if not self._appended and self._answers.tally().redriven:
                        return self._ending(
                            "completed", "an earlier run has redriven all of it; nothing was left to do"
                        )
                    case Stop(ended=ended, message=message):
                        return self._ending(ended, message)
                    case _ if stopping.is_set():
                        return self._ending(*self._stopped)
                    case Pause():
                        await _pause(_LOOK_SECONDS, stopping)
                    case Send(most=most):
                        count = min(most, bucket.available(now_seconds=clock.boot_seconds()))
                        if count < min(most, max(1, int(self._pace.per_second * _LOOK_SECONDS))):
                            await _pause(min(_LOOK_SECONDS, 1 / self._pace.per_second), stopping)
                            continue
                        batch = await _next_batch(letters, count)
                        is_exhausted = len(batch) < count
                        bucket.take(len(batch))
                        await self._send(batch)
                        heard_at = clock.boot_seconds()

    async def _to_redrive(self, surroundings: Surroundings) -> AsyncGenerator[Letter, None]:
        """The letters that are to be redriven, judged at the moment they are asked for."""
        seen: set[str] = set()
        async with contextlib.aclosing(self._letters.scan(self._plan.selection, ends=self._plan.ends)) as scanned:
            async for raw in scanned:
                if raw.matter in seen:
                    continue
                seen.add(raw.matter)
                letter = surroundings.marks.corrected(raw)
                state = surroundings.marks.standing(raw).state
                match judge(letter, state=state, rules=self._plan.rules, world=surroundings.world()):
                    case "redrive":
                        yield letter
                    case "sent":
                        await self._resolve(letter)
                    case _:
                        continue

    async def _send(self, batch: Sequence[Letter]) -> None:
        """Append, confirm, then mark."""
        at = self._clock.now()  # Before the append: a fast worker's `sent` comes after it in the timeline.
        sent = await self._append_deliveries(batch)
        self._appended += len(sent)
        records = []
        for letter in sent:
            delivery = redriven_delivery(letter)
            mark = Mark(matter=letter.matter, delivery_id=delivery.id, attempt=delivery.attempt, plan=self._plan.id)
            fact = marking_fact(
                letter,
                action=REDRIVEN,
                by=self._who.by,
                at=at,
                reason=self._who.reason,
                detail=mark,
                occasion=self._plan.id,
            )
            detail = f"{self._who.by}: {self._who.reason}"
            event = event_of_decision(letter, kind="redriven", at=at, detail=detail)
            records += [audit_record(fact), event_record(event)]
        if records:
            await insist(lambda: self._producer.append(records))
        for letter in sent:
            delivery = redriven_delivery(letter)
            self._answers.expect(delivery.id, attempt=delivery.attempt)

    async def _append_deliveries(self, batch: Sequence[Letter]) -> list[Letter]:
        """Append the deliveries; returns the letters whose deliveries stand in the log."""
        left = list(batch)
        while left:
            records = [delivery_record(redriven_delivery(letter)) for letter in left]
            try:
                await insist(lambda records=records: self._producer.append(records))  # type: ignore[misc]
            except RecordRefused as error:
                if not error.indexes:
                    raise
                for index in error.indexes:
                    logger.warning("%s is not redriven: the log does not take it: %s", left[index].id, error)
                self._refused += len(error.indexes)
                left = [letter for index, letter in enumerate(left) if index not in error.indexes]
                continue
            return left
        return left

    async def _resolve(self, letter: Letter) -> None:
        """Note that nothing is left to redrive: the delivery was accepted after all."""
        fact = marking_fact(
            letter,
            action=RESOLVED,
            by=self._who.by,
            at=self._clock.now(),
            reason="it was sent: its acceptance came late",
            detail=Mark(matter=letter.matter, plan=self._plan.id),
            occasion=letter.matter,
        )
        await insist(lambda: self._producer.append([audit_record(fact)]))
        self._resolved += 1

    def _learn_own_mark(self, fact: AuditFact) -> None:
        """What earlier runs of this plan redrove is not redriven again, and its answers count."""
        if fact.action == REDRIVEN:
            with contextlib.suppress(DecodeError):  # `Marks` has warned of it.
                mark = fact.detail_as(Mark)
                if mark.plan == self._plan.id and mark.delivery_id is not None and mark.attempt is not None:
                    self._answers.expect(mark.delivery_id, attempt=mark.attempt)

    def _hold(self) -> TopicHold:
        claim = TopicClaim(
            topic="",
            token=self._who.token,
            plan=self._plan.id,
            by=self._who.by,
            host=self._who.host,
            since=self._clock.now(),
            lease_seconds=self._who.lease_seconds,
        )
        return TopicHold(
            letters_of(self._plan),
            claim=claim,
            ops=self._tails.of(OPS_TOPIC),
            producer=self._producer,
            clock=self._clock,
        )

    def _started(self) -> AuditFact:
        start = Start(plan=self._plan, pace=self._pace, run=self._who.token, host=self._who.host)
        return self._fact(STARTED, detail=start, ended=None)

    async def _tell_end(self, ending: Ending) -> None:
        fact = self._fact(ENDED, detail=ending, ended=f"{ending.ended}: {ending.message}")
        await insist(lambda: self._producer.append([audit_record(fact)]))

    def _fact(self, action: str, *, detail: Fact, ended: str | None) -> AuditFact:
        subject = f"plan/{self._plan.id}"
        return AuditFact(
            id=audit_id(action=action, subject=subject, occasion=self._who.token),
            action=action,
            subject=subject,
            by=self._who.by,
            at=self._clock.now(),
            reason=self._who.reason,
            ended=ended,
            detail=msgspec.to_builtins(detail),
        )

    def _ending(self, ended: str, message: str) -> Ending:
        return Ending(
            ended=ended,
            message=message,
            tally=self._answers.tally(),
            resolved=self._resolved,
            refused=self._refused,
            run=self._who.token,
        )


async def _next_batch(letters: AsyncIterator[Letter], count: int) -> list[Letter]:
    batch: list[Letter] = []
    while len(batch) < count:
        try:
            batch.append(await anext(letters))
        except StopAsyncIteration:
            break
    return batch


async def _pause(seconds: float, stopping: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
