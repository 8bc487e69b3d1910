"""Runs redrives that were begun over HTTP inside API processes, until each has ended.

A redrive stands in `pabal.audit` with its whole plan before its caller is answered (`book.py`: an order). Every API
process follows that log, and goes on with redrives that no process runs: the process that ran them has ended. If two
processes try at once, the claim on the letters decides (`hold.py`). The claim of a process that ended without a word
holds until its lease ends. A process may stand still, and wake up when another process has relieved it. It then appends
at most the batch it had in hand: the same attempts of the same deliveries, which the ledger knows. Nothing is called
twice.
"""

import asyncio
import logging
import secrets
import socket
from datetime import timedelta
from typing import Final
from uuid import UUID

import msgspec

from pabal.audit import audit_record
from pabal.dlq.letters.tails import CLOCK_SKEW
from pabal.dlq.parts import DeadLetters
from pabal.dlq.redrive.book import REDRIVE_ACTIONS, Book, Entry, Order, cancel_fact, request_fact
from pabal.dlq.redrive.claim import LEASE_SECONDS, Claims, TopicClaim
from pabal.dlq.redrive.hold import letters_of
from pabal.dlq.redrive.plan import Plan
from pabal.dlq.redrive.run import Redrive, Watcher, Who
from pabal.dlq.redrive.stepping import Pace
from pabal.errors import ConfigError, LetterRefused, PabalError, RedriveHeld
from pabal.notification import AUDIT_TOPIC, OPS_TOPIC
from pabal.runtime import insist
from pabal.tail import HistoryTail, Tail

logger = logging.getLogger(__name__)

REMEMBERED: Final = timedelta(days=30)
"""How far back redrives are looked for: as long as dead letters are kept."""

_LOOK_SECONDS: Final = 2.0


class _Hurried(Watcher):
    """Does not wait for a claim to end: `follow` comes back to the redrive later, and notices when it is cancelled."""

    def waiting_for_former_run(self, holder: TopicClaim, seconds: float) -> None:
        """See `Watcher`. Raises RedriveHeld."""
        raise RedriveHeld(
            f"a run of {holder.by} on {holder.host} holds {holder.topic}; its claim ends in {seconds:.0f} s"
        )


class _Run(msgspec.Struct, frozen=True, kw_only=True):
    order: UUID
    redrive: Redrive
    stopping: asyncio.Event
    task: asyncio.Task[None]


class RedriveHost:
    """Belongs to one event loop. `follow` goes on with what is left; `close` leaves what runs to the next process.

    `look_seconds`: how often it looks for redrives that are left or cancelled. `lease_seconds`: how long its claims
    outlive it.
    """

    def __init__(
        self, dead_letters: DeadLetters, *, look_seconds: float = _LOOK_SECONDS, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self.dead_letters = dead_letters
        self._tails = dead_letters.tails
        self._producer = dead_letters.producer
        self._clock = dead_letters.clock
        self._look_seconds = look_seconds
        self._lease_seconds = lease_seconds
        self._runs: dict[str, _Run] = {}
        self._defective: set[UUID] = set()
        self._is_closed = False

    async def begin(self, plan: Plan, *, pace: Pace, by: str, reason: str) -> None:
        """Begin to carry a plan out. From its return on it stands in the log, and outlives this process.

        Begun again before it has ended, it is the same redrive, at the pace it has.

        Raises:
            RedriveHeld: this process carries it out already.
            ConfigError: another plan of the same id was begun.
            LogError: it may have begun or not; asking again is safe.
        """
        entry = await self._entry(plan.id)
        if entry is not None and entry.start.plan != plan:
            # No word about that plan: it may be another tenant's.
            raise ConfigError(f"another plan of the id {plan.id} was begun; make this one anew")
        if plan.id in self._runs:
            whose = plan.selection.tenants
            raise RedriveHeld(
                f"the plan {plan.id} is being carried out here already", tenant=whose[0] if len(whose) == 1 else ""
            )
        if entry is None or entry.order is None:
            token = secrets.token_hex(8)
            fact = request_fact(plan, pace=pace, by=by, reason=reason, at=self._clock.now(), token=token)
            await self._producer.append([audit_record(fact)])
            # Of two requests at once the first is the order; the log says which one is first.
            entry = await self._entry(plan.id)
        if entry is not None and entry.order is not None:
            self._start(entry.order)

    async def cancel(self, plan_id: str, *, by: str) -> None:
        """Stop a redrive that was begun over HTTP, wherever it runs, or take it back while it does not run.

        Raises LetterRefused when it was not begun so or has ended; LogError, and asking again is safe.
        """
        run = self._runs.get(plan_id)
        entry = await self._entry(plan_id)
        if run is None and (entry is None or entry.order is None):
            raise LetterRefused(
                f"the plan {plan_id} is not being carried out by the API: it has ended, or runs in `pabal dlq redrive`"
            )
        fact = cancel_fact(plan_id, by=by, at=self._clock.now(), token=secrets.token_hex(8))
        await self._producer.append([audit_record(fact)])
        if run is not None:
            run.stopping.set()

    async def follow(self) -> None:
        """Go on with what is left, until cancelled."""
        ops, audit = self._tails.of(OPS_TOPIC), self._audit()
        book, claims = self._new_book(), Claims()
        try:
            while True:
                # Claims before facts: a run tells its end before it lets go, so it is not taken for a run that is gone.
                await insist(lambda: _take_claims(ops, claims))
                await insist(lambda: _take_facts(audit, book))
                self._act(claims, book)
                await asyncio.sleep(self._look_seconds)
        except Exception:  # The boundary: accepting notifications does not end with redrives.
            logger.exception("redrives met a defect; what others leave is not taken up here until a restart")

    async def close(self) -> None:
        """Interrupt what runs, and wait until what was begun is marked; idempotent."""
        self._is_closed = True
        runs = list(self._runs.values())
        for run in runs:
            if not run.stopping.is_set():
                run.redrive.interrupt("its API process was stopped; another one goes on with it")
                run.stopping.set()
        await asyncio.gather(*(run.task for run in runs))

    def _act(self, claims: Claims, book: Book) -> None:
        for plan_id, run in self._runs.items():
            if (entry := book.entries.get(plan_id)) is not None and entry.cancelled == run.order:
                run.stopping.set()
        now = self._clock.now()
        for order in list(book.orders()):
            if order.plan.id in self._runs or order.id in self._defective:
                continue
            try:
                is_free = all(claims.holder(letters, now=now) is None for letters in letters_of(order.plan))
            except Exception:  # A plan that no Pabal made; the orders of others go on.
                logger.exception("redrive %s cannot be carried out", order.plan.id)
                self._defective.add(order.id)
                continue
            if is_free:
                logger.info("redrive %s of %s goes on here", order.plan.id, order.by)
                self._start(order)

    def _start(self, order: Order) -> None:
        if order.plan.id in self._runs or self._is_closed:
            return
        who = Who(
            by=order.by,
            host=socket.gethostname(),
            reason=order.reason,
            token=secrets.token_hex(8),
            lease_seconds=self._lease_seconds,
        )
        redrive = Redrive(
            self.dead_letters.letters,
            order.plan,
            tails=self._tails,
            producer=self._producer,
            clock=self._clock,
            pace=order.pace,
            who=who,
            watcher=_Hurried(),
        )
        stopping = asyncio.Event()
        task = asyncio.create_task(self._run(order, redrive, stopping))
        self._runs[order.plan.id] = _Run(order=order.id, redrive=redrive, stopping=stopping, task=task)

    async def _run(self, order: Order, redrive: Redrive, stopping: asyncio.Event) -> None:
        try:
            ending = await redrive.run(stopping)
        except RedriveHeld as error:
            logger.info("redrive %s is left for now: %s", order.plan.id, error)
        except PabalError as error:
            # Its caller was answered long ago; what could be told of it stands in the audit log.
            logger.error("redrive %s failed: %s", order.plan.id, error)
        except Exception:  # The boundary, as in `follow`: begun here again it would meet the same.
            logger.exception("redrive %s met a defect", order.plan.id)
            self._defective.add(order.id)
        else:
            logger.info("redrive %s: %s, %d redriven", order.plan.id, ending.ended, ending.tally.redriven)
        finally:
            del self._runs[order.plan.id]

    async def _entry(self, plan_id: str) -> Entry | None:
        book = self._new_book()
        await _take_facts(self._audit(), book)
        return book.entries.get(plan_id)

    def _new_book(self) -> Book:
        return Book(since=self._clock.now() - REMEMBERED - CLOCK_SKEW)

    def _audit(self) -> HistoryTail:
        return self._tails.history(AUDIT_TOPIC, start=self._clock.now() - REMEMBERED)


async def _take_claims(ops: Tail, claims: Claims) -> None:
    async for record in ops.read_on():
        claims.take(record)


async def _take_facts(audit: HistoryTail, book: Book) -> None:
    async for record in audit.read_on():
        if (record.header("x-action") or b"").decode(errors="replace") in REDRIVE_ACTIONS:
            book.read(record)
