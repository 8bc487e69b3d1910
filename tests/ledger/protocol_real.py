"""The model's world with the real thing in it: the worker's own code over a real ledger, led step by step.

Every step that the model takes, a `Deliverer` takes as well: it runs in a task of its own (a `Journey`) that stops
at each border (the ledger, the provider, the log) until the model has come there too. What goes over the border is the
real one's; what comes back is the real ledger's answer, which must be the model's. So the same luck and faults befall
both, and the laws that are stated over the model hold for the worker, or the two are found to differ.
"""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, cast

import msgspec

from pabal.broker import port as log
from pabal.channels.suppression import suppression_key
from pabal.channels.webhook import WebhookChannel
from pabal.clock import ManualClock
from pabal.codec import read_delivery, read_event
from pabal.errors import LedgerUnavailable, OwnerEnded, TemplateError
from pabal.ledger.port import Ledger
from pabal.ledger.protocol import Call, CancelAnswer, Claim, ClaimAnswer, Finish, FinishAnswer, Held
from pabal.notification import (
    EVENTS_TOPIC,
    Content,
    Delivery,
    NotificationClass,
    Suppression,
    TemplateRef,
)
from pabal.outcome import RetryAt, Verdict
from pabal.policy import ClassSettings
from pabal.worker.carrier import Carrier
from pabal.worker.deliver import Deliverer
from pabal.worker.errand import End
from pabal.worker.sending import Sender
from pabal.worker.telling import Teller
from tests.ledger.protocol_facts import DUE, LADDER_LENGTH, LEASE_SECONDS, ClaimName, OutcomeWord, Record, Task, Worker
from tests.ledger.protocol_journey import GatedLedger, GatedProducer, GatedProvider, Journey, begin
from tests.ledger.protocol_model import World
from tests.ledger.protocol_stores import RealStore

_ORIGIN = log.Record(
    topic="pabal.deliveries.webhook.critical", partition=0, offset=0, timestamp=0.0, key=b"k", value=b"v"
)
_NOBODY = uuid.UUID(int=0)


def _class_settings(name: NotificationClass) -> ClassSettings:
    return ClassSettings(
        ladder_seconds=(30,) * LADDER_LENGTH,
        time_to_live_seconds=86400.0,
        weight=1,
        uncertain="resend" if name == "critical" else "dead_letter",
    )


_CLASSES: Mapping[NotificationClass, ClassSettings] = {name: _class_settings(name) for name in ("critical", "standard")}


class RealWorld(World):
    """`World`, with a real worker beside each of its own."""

    def __init__(self, store: RealStore) -> None:
        super().__init__()
        self._store_of_ledgers = store
        self._runner = asyncio.Runner()
        self._clock = ManualClock(DUE)
        self._workers_clock = _StallingClock(DUE)
        self.now_seconds = self._clock.boot_seconds()
        self._ids: list[uuid.UUID] = []
        self._deliveries: dict[Record, Delivery] = {}
        self._real: dict[Worker, tuple[GatedLedger, Deliverer]] = {}
        self._journeys: dict[Task, Journey] = {}
        self._called_as: dict[Task, int] = {}
        self._asker = self._run(store.connect("asker", clock=self._clock))

    def close(self) -> None:
        """Let go of everything; the world is not to be used after."""
        for journey in self._journeys.values():
            self._run(journey.break_off())
        for ledger in (self._asker, *(gated.real for gated, _ in self._real.values())):
            self._run(ledger.close())
        self._runner.close()

    # The outside world

    def accept(self, *, may_repeat: bool) -> None:
        self._ids.append(uuid.uuid4())
        super().accept(may_repeat=may_repeat)

    def cancel(self, delivery: int) -> CancelAnswer:
        answer = super().cancel(delivery)
        assert self._run(self._asker.cancel(self._ids[delivery], prune_after=0.0)) == answer
        return answer

    def suppress(self, delivery: int) -> None:
        super().suppress(delivery)
        asked = self._first(delivery)
        suppression = Suppression(
            tenant=asked.tenant, channel=asked.channel, address=asked.address, reason="bounced", since=DUE
        )
        self._run(self._asker.suppress([suppression]))

    def unsuppress(self, delivery: int) -> None:
        super().unsuppress(delivery)
        asked = self._first(delivery)
        key = suppression_key(tenant=asked.tenant, channel=asked.channel, address=asked.address)
        self._run(self._asker.unsuppress([key]))

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._clock.advance(seconds)
        self._store_of_ledgers.let_time_pass(seconds)

    def new_token(self) -> int:
        """As the worker's ledger gives them out."""
        return next(self._tokens)

    # Workers come and go

    def start(self, name: str) -> Worker:
        worker = super().start(name)
        ledger = self._run(self._store_of_ledgers.connect(name, clock=self._clock))
        worker.owner = ledger.owner
        gated = GatedLedger(self.new_token, worker, ledger)
        deliverer = Deliverer(
            carrier=Carrier(channel=WebhookChannel(), provider=GatedProvider(), provider_name="provider"),
            classes=_CLASSES,
            ledger=cast("Ledger", gated),  # a Deliverer asks for no more
            find_template=_no_template,
            clock=self._workers_clock,
            sender=Sender(clock=self._workers_clock, tracing=None),
        )
        self._real[worker] = (gated, deliverer)
        return worker

    def crash(self, worker: Worker) -> None:
        tasks = [*worker.tasks]
        super().crash(worker)
        for task in tasks:
            if journey := self._journeys.pop(task, None):
                self._run(journey.break_off())

    # One step of one task

    def step(
        self,
        worker: Worker,
        task: Task,
        *,
        outcome: OutcomeWord = "accepted",
        refusal: Verdict | None = None,
        gives_back: bool = False,
        loses_answer: bool = False,
    ) -> None:
        if worker.running:  # a step before may have been the one that told it to end
            super().step(
                worker, task, outcome=outcome, refusal=refusal, gives_back=gives_back, loses_answer=loses_answer
            )

    def _ask(self, worker: Worker, task: Task, *, refusal: Verdict | None, loses_answer: bool) -> None:
        if worker.owner not in self.ended_owners:
            super()._ask(worker, task, refusal=refusal, loses_answer=loses_answer)
            return
        ask = self._claim_of(worker, task, refusal=refusal)
        gated, _ = self._real[worker]
        try:
            self._run(gated.real.claim(self._ids[task.record.delivery], ask))
        except OwnerEnded:
            self.crash(worker)
        else:
            raise AssertionError("a worker that was written off claimed")

    def _claim_of(self, worker: Worker, task: Task, *, refusal: Verdict | None) -> Claim:
        """The claim with which the worker's code is at the ledger: begun now, or asked again after a lost answer."""
        if task not in self._journeys:
            _, deliverer = self._real[worker]
            delivery = self._delivery(task.record)
            if refusal is None:
                work = deliverer.call(delivery, origin=_ORIGIN, group="g")
            else:
                work = deliverer.refuse(delivery, refusal, provider="provider", origin=_ORIGIN, group="g")
            self._journeys[task] = self._run(begin(work))
        ask = self._brings(task, at="claim")
        assert isinstance(ask, Claim)
        task.token = ask.token
        expected = super()._claim_of(worker, task, refusal=ask.refusal)
        assert msgspec.structs.replace(ask, prune_after=0.0, recipient=b"") == expected
        return ask

    def _on_claim(self, worker: Worker, task: Task, answer: ClaimAnswer, *, loses_answer: bool) -> None:
        gated, _ = self._real[worker]
        ask = self._brings(task, at="claim")
        found = self._run(gated.real.claim(self._ids[task.record.delivery], ask))
        if isinstance(answer, Held) and isinstance(found, Held):
            assert abs(found.seconds - answer.seconds) < LEASE_SECONDS / 10
        else:
            assert found == answer
        journey = self._journeys[task]
        if loses_answer:
            self._run(journey.go_on(with_=LedgerUnavailable("the answer got lost")))
            return
        journey.answer = found
        if not isinstance(found, Call):
            self._run(journey.go_on(with_=found))
            end = self._brings(task, at="end")
            if end is None or isinstance(end, Held):
                del self._journeys[task]

    def _on_release(self, worker: Worker, task: Task) -> None:
        """The worker gives a claim back when it looks at the clock after a long stall."""
        gated, _ = self._real[worker]
        journey = self._journeys[task]
        self._workers_clock.stalled_seconds = LEASE_SECONDS
        self._run(journey.go_on(with_=journey.answer))
        self._workers_clock.stalled_seconds = 0.0
        name = self._brings(task, at="release")
        assert name == ClaimName(worker.owner, task.token)
        self._run(gated.real.release(self._ids[task.record.delivery], owner=name.owner, token=name.token))
        self._run(journey.go_on())
        assert isinstance(self._brings(task, at="end"), Held)
        del self._journeys[task]

    def _on_call(self, task: Task) -> None:
        self._called_as[task] = task.attempt
        journey = self._journeys[task]
        self._run(journey.go_on(with_=journey.answer))
        assert self._brings(task, at="send") == str(self._ids[task.record.delivery])
        self._run(journey.go_on(with_=task.outcome))

    def _finish_of(self, worker: Worker, task: Task) -> Finish:
        end = self._brings(task, at="finish")
        assert isinstance(end, Finish)
        assert (end.attempt, end.owner, end.token) == (task.attempt, worker.owner, task.token)
        assert end.outcome == task.outcome
        return end

    def _on_finish(self, worker: Worker, task: Task, answer: FinishAnswer, *, loses_answer: bool) -> None:
        gated, _ = self._real[worker]
        end = self._brings(task, at="finish")
        assert self._run(gated.real.finish(self._ids[task.record.delivery], end)) == answer
        lost = LedgerUnavailable("the answer got lost")
        self._run(self._journeys[task].go_on(with_=lost if loses_answer else answer))

    def _append_verdict_record(self, task: Task) -> None:
        partition = self.partitions[task.partition]
        before = len(partition), len(self.dead_letters)
        super()._append_verdict_record(task)
        appended, dead = partition[before[0] :], self.dead_letters[before[1] :]

        following = [read_delivery(_as_read(each)) for each in self._tell(task) if each.topic != EVENTS_TOPIC]
        assert [self._record(each) for each in following] == [*appended, *dead]
        self._deliveries.update(zip(appended, following, strict=False))

    def _append_verdict_event(self, task: Task) -> None:
        before = len(self.events)
        super()._append_verdict_event(task)
        expected = {(event.attempt, event.kind) for event in self.events[before:]}

        told = self._told(task)
        if isinstance(task.verdict, RetryAt):
            # The model does not tell apart why it goes on.
            told |= {(attempt, "deferred") for attempt, kind in told if (attempt, kind) == (task.attempt, "unknown")}
        assert {kind for _, kind in told ^ expected} <= {"unknown"}
        if self._called_as.get(task, task.attempt) == task.attempt:
            assert expected <= told
        # Else its call was given up, and whoever took over says what became of the attempts in between.
        self._run(self._journeys[task].go_on())

    def _append_late_event(self, task: Task) -> None:
        super()._append_late_event(task)
        records = self._tell(task)
        assert {each.topic for each in records} == {EVENTS_TOPIC}
        event = self.events[-1]
        assert (event.attempt, event.kind) in self._told(task)
        self._run(self._journeys.pop(task).go_on())

    def _settle(self, worker: Worker, task: Task) -> None:
        super()._settle(worker, task)
        assert self._journeys.pop(task).settled == task.settles

    def _write_settles(self, worker: Worker) -> None:
        settles = [*worker.waiting_settles]
        super()._write_settles(worker)
        if settles:
            gated, _ = self._real[worker]
            for delivery, name in settles:
                gated.real.settle(self._ids[delivery], owner=name.owner, token=name.token)
            # They ride with the next transaction: this one.
            self._run(gated.real.release(_NOBODY, owner=0, token=0))

    # Between the two

    def _tell(self, task: Task) -> Sequence[log.NewRecord]:
        """Begin to append what the worker's code ended with; the records that are at the log."""
        end = self._brings(task, at="end")
        assert isinstance(end, End)
        [worker] = [worker for worker in self.workers if task in worker.tasks]
        gated, _ = self._real[worker]
        teller = Teller(producer=GatedProducer(), ledger=cast("Ledger", gated))
        self._journeys[task] = self._run(begin(teller.tell([end])))
        records: Sequence[log.NewRecord] = self._brings(task, at="append")
        return records

    def _told(self, task: Task) -> set[tuple[int, str]]:
        records = self._brings(task, at="append")
        events = [read_event(_as_read(each)) for each in records if each.topic == EVENTS_TOPIC]
        return {(event.attempt, event.kind) for event in events}

    def _brings(self, task: Task, *, at: str) -> Any:
        journey = self._journeys[task]
        assert journey.at == at
        return journey.brings

    def _delivery(self, record: Record) -> Delivery:
        """The delivery in a record: as the worker wrote it, or as the API or an operator would have."""
        first = self._first(record.delivery)
        written = msgspec.structs.replace(first, attempt=record.attempt, rung=record.rung, parks=record.parks)
        return self._deliveries.get(record, written)

    def _first(self, delivery: int) -> Delivery:
        return Delivery(
            id=self._ids[delivery],
            notification_id=_NOBODY,
            tenant="shop",
            channel="webhook",
            address=f"https://example.com/{self._ids[delivery].hex}",
            class_="critical" if self.may_repeat[delivery] else "standard",
            accepted_at=DUE,
            expires_at=DUE + timedelta(days=6),
            content=Content(body="hello"),
        )

    def _record(self, delivery: Delivery) -> Record:
        return Record(self._ids.index(delivery.id), attempt=delivery.attempt, rung=delivery.rung, parks=delivery.parks)

    def _run(self, work: Any) -> Any:
        async def wait() -> Any:
            return await work

        return self._runner.run(wait())


class _StallingClock(ManualClock):
    """The workers' clock stands still, so that only the ledger says when a lease is over; but a process may stall."""

    stalled_seconds = 0.0

    def boot_seconds(self) -> float:
        return super().boot_seconds() + self.stalled_seconds


async def _no_template(pinned: TemplateRef) -> Content:
    raise TemplateError(f"template {pinned.name!r} is gone")


def _as_read(record: log.NewRecord) -> log.Record:
    return log.Record(
        topic=record.topic,
        partition=0,
        offset=0,
        timestamp=0.0,
        key=record.key,
        value=record.value,
        headers=record.headers,
    )
