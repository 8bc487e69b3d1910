"""A small world around the send protocol: a log, workers that may stop anywhere, a provider that counts.

It is as unkind as the real one: processes crash between any two steps and lose what they held in memory, partitions
move while the former owner goes on, leases end under a call, answers of the ledger get lost after they were stored,
records stand in the log twice. What it keeps of the real worker is what the protocol relies on: one record of a
delivery at a time in each worker, effects before offsets, only the contiguous prefix is committed, and only by the
worker that still owns the partition.
"""

from itertools import count
from typing import assert_never

import msgspec

from pabal.ledger import protocol
from pabal.ledger.protocol import (
    Call,
    CancelAnswer,
    Claim,
    ClaimAnswer,
    Decided,
    Finish,
    FinishAnswer,
    Ghost,
    Held,
    Late,
    Resume,
    Row,
    Source,
)
from pabal.outcome import (
    Accepted,
    DeadLetter,
    Done,
    Misconfigured,
    Park,
    Refused,
    Rejected,
    RetryAt,
    Suppressed,
    Unknown,
    Verdict,
)
from tests.ledger.protocol_facts import (
    DUE,
    LADDER_LENGTH,
    LEASE_SECONDS,
    OUTCOMES,
    PARTITIONS,
    ClaimName,
    Event,
    OutcomeWord,
    Record,
    Tally,
    Task,
    Worker,
    kind_of_outcome,
    kind_of_verdict,
)


class World:
    """The log, the ledger's rows, the workers, and what they have done."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.may_repeat: dict[int, bool] = {}
        self.partitions: list[list[Record]] = [[] for _ in range(PARTITIONS)]
        self.committed = [0] * PARTITIONS
        self.epochs = [0] * PARTITIONS
        self.owners: list[Worker | None] = [None] * PARTITIONS
        self.dead_letters: list[Record] = []
        self.events: list[Event] = []
        self.workers: list[Worker] = []
        self.ended_owners: set[int] = set()
        self.suppressed: set[int] = set()
        self.now_seconds = 0.0
        self.tally = Tally()
        self._owner_numbers = count(1)
        self._tokens = count(1)

    # The outside world

    def accept(self, *, may_repeat: bool) -> None:
        """The API accepts a delivery: its first record is in the log."""
        delivery = len(self.may_repeat)
        self.may_repeat[delivery] = may_repeat
        self._append(Record(delivery, attempt=1, rung=0, parks=0))

    def duplicate(self, record: Record) -> None:
        """A producer retried: the record stands in the log once more."""
        self._append(record)

    def redrive(self, dead: Record) -> None:
        """An operator sends a dead letter back."""
        self._append(Record(dead.delivery, attempt=dead.attempt + 1, rung=0, parks=0))

    def cancel(self, delivery: int) -> CancelAnswer:
        """Who asked for it takes it back."""
        before = self.rows.get(delivery)
        row, answer = protocol.cancel(before, prune_after=0.0)
        self._store(delivery, row)
        if answer != "too_late":
            under_way = {ClaimName(row.owner, row.token)} if answer == "in_flight" else set()
            # A zombie's claim was taken over already; that it may overlap is said of it, not of the cancel.
            zombies = {
                ClaimName(worker.owner, task.token)
                for worker in self.workers
                for task in worker.tasks
                if task.record.delivery == delivery and task.phase == "permitted"
                if (worker.owner, task.token) != (row.owner, row.token)
            }
            self.tally.cancelled_except.setdefault(delivery, under_way | zombies)
        return answer

    def suppress(self, delivery: int) -> None:
        """Its address must not be written to from now on."""
        self.suppressed.add(delivery)

    def unsuppress(self, delivery: int) -> None:
        """Its address may be written to again."""
        self.suppressed.discard(delivery)

    def advance(self, seconds: float) -> None:
        self.now_seconds += seconds

    def sources(self, delivery: int) -> list[Source]:
        """All records of a delivery that ever were in the log, by name."""
        records = self.partitions[delivery % PARTITIONS]
        return [Source(record.attempt, record.parks) for record in records if record.delivery == delivery]

    # Workers come and go

    def start(self, name: str) -> Worker:
        """A worker starts; the leases of a former one of its name end, though it may be alive after all."""
        self.ended_owners |= {worker.owner for worker in self.workers if worker.name == name}
        worker = Worker(name=name, owner=next(self._owner_numbers))
        self.workers.append(worker)
        return worker

    def crash(self, worker: Worker) -> None:
        for task in worker.tasks:
            if task.phase != "asking":
                self._lose(worker, task)
            if self._holds_claim(worker, task):
                self.tally.exposed[task.record.delivery] += 1
            if task.accepted_late and task.phase != "done" and not self._has_uncommitted_records(task.record.delivery):
                self.tally.unheard_acceptances.add(task.record.delivery)
        worker.running = False
        worker.tasks.clear()
        worker.waiting_settles.clear()
        for partition, owner in enumerate(self.owners):
            if owner is worker:
                self.owners[partition] = None

    def assign(self, partition: int, worker: Worker) -> None:
        """Move a partition. A former owner keeps its tasks and goes on with them."""
        former = self.owners[partition]
        if former is not None:
            for task in former.tasks:
                if task.partition == partition and task.epoch == self.epochs[partition]:
                    self._lose(former, task)
        self.owners[partition] = worker
        self.epochs[partition] += 1
        worker.positions[partition] = self.committed[partition]

    def poll(self, worker: Worker, *, limit: int) -> None:
        for partition, owner in enumerate(self.owners):
            if owner is not worker:
                continue
            start = worker.positions[partition]
            for offset, record in enumerate(self.partitions[partition][start : start + limit], start=start):
                worker.tasks.append(
                    Task(
                        record=record,
                        partition=partition,
                        offset=offset,
                        epoch=self.epochs[partition],
                        token=next(self._tokens),
                    )
                )
                worker.positions[partition] = offset + 1

    def commit(self, worker: Worker) -> None:
        """Commit the contiguous prefix of what is done, where the partition is still ours (fencing)."""
        for partition, owner in enumerate(self.owners):
            if owner is not worker:
                continue
            current = [t for t in worker.tasks if t.partition == partition and t.epoch == self.epochs[partition]]
            unfinished = [task.offset for task in current if task.phase != "done"]
            self.committed[partition] = min(unfinished, default=worker.positions[partition])

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
        match task.phase:
            case "asking":
                self._ask(worker, task, refusal=refusal, loses_answer=loses_answer)
            case "permitted" if gives_back:
                self._release(worker, task)
            case "permitted":
                self._call(worker, task, outcome=outcome)
            case "called":
                self._finish(worker, task, loses_answer=loses_answer)
            case "decided" if not task.record_appended:
                self._append_verdict_record(task)
            case "decided":
                self._append_verdict_event(task)
            case "appended":
                self._settle(worker, task)
                task.phase = "done"
            case "late":
                self._append_late_event(task)
                task.phase = "done"
            case "done":
                raise AssertionError("a task that is done takes no step")
            case _ as never:
                assert_never(never)

    def _ask(self, worker: Worker, task: Task, *, refusal: Verdict | None, loses_answer: bool) -> None:
        delivery = task.record.delivery
        ask = self._claim_of(worker, task, refusal=refusal)
        self._write_settles(worker)
        before = self.rows.get(delivery)
        if delivery in self.suppressed and ask.refusal is None:
            ask = msgspec.structs.replace(ask, refusal=Suppressed())
        row, answer = protocol.claim(before, ask, now_seconds=self.now_seconds, lease_left=self.lease_left)
        self._store(delivery, row)
        self._count_takeover(before, row, delivery)
        if isinstance(answer, Call):
            assert ask.refusal is None
            assert not answer.took_over or self.may_repeat[delivery]
            self.tally.claimed_after_acceptance += delivery in self.tally.known_taken
            self.tally.called_while_suppressed += delivery in self.suppressed
        self._on_claim(worker, task, answer, loses_answer=loses_answer)
        if loses_answer:
            return
        match answer:
            case Call(attempt=attempt):
                task.phase, task.attempt = "permitted", attempt
            case Held():
                assert answer.seconds > 0
            case Resume():
                task.phase, task.attempt, task.verdict = "decided", answer.attempt, answer.verdict
                task.settles = ClaimName(answer.owner, answer.token)
            case Ghost():
                task.phase = "done"
            case _ as never:
                assert_never(never)

    def _claim_of(self, worker: Worker, task: Task, *, refusal: Verdict | None) -> Claim:
        return Claim(
            source=Source(task.record.attempt, task.record.parks),
            owner=worker.owner,
            token=task.token,
            lease_seconds=LEASE_SECONDS,
            provider="provider",
            may_repeat=self.may_repeat[task.record.delivery],
            refusal=refusal,
        )

    def _count_takeover(self, before: Row | None, after: Row | None, delivery: int) -> None:
        if before is None or after is None or before.state != "claimed" or after == before:
            return
        if after.token != before.token and any(
            task.token == before.token for worker in self.workers for task in worker.tasks
        ):
            self.tally.exposed[delivery] += 1  # Its worker is alive, but was too slow or declared dead.
        if after.verdict == DeadLetter(
            error_class="uncertain", message="a worker was lost during the call; it may have been sent"
        ):
            self.tally.uncertain_by_takeover[delivery] += 1

    def _release(self, worker: Worker, task: Task) -> None:
        delivery = task.record.delivery
        self._store(delivery, protocol.release(self.rows.get(delivery), owner=worker.owner, token=task.token))
        self._on_release(worker, task)
        task.phase, task.token = "asking", next(self._tokens)

    def _call(self, worker: Worker, task: Task, *, outcome: OutcomeWord) -> None:
        delivery = task.record.delivery
        name = ClaimName(worker.owner, task.token)
        self.tally.calls_by_claim[delivery, name] += 1
        self.tally.called_after_cancel += name not in self.tally.cancelled_except.get(delivery, {name})
        self.tally.calls_by_attempt[delivery, task.attempt] += 1
        self.tally.calls_by_source[delivery, Source(task.record.attempt, task.record.parks)] += 1
        if outcome in ("accepted", "unknown"):
            self.tally.taken.add(delivery)
        task.phase, task.outcome = "called", OUTCOMES[outcome]
        self._on_call(task)

    def _finish(self, worker: Worker, task: Task, *, loses_answer: bool) -> None:
        delivery = task.record.delivery
        assert task.outcome is not None
        self._write_settles(worker)
        before = self.rows.get(delivery)
        row, answer = protocol.finish(before, self._finish_of(worker, task))
        self._store(delivery, row)
        if isinstance(task.outcome, Accepted):
            self.tally.known_taken.add(delivery)
            assert before is not None
            task.accepted_late |= before.token != task.token
        self._on_finish(worker, task, answer, loses_answer=loses_answer)
        if loses_answer:
            return
        match answer:
            case Decided():
                task.phase, task.attempt, task.verdict = "decided", answer.attempt, answer.verdict
                task.settles = ClaimName(worker.owner, task.token)
            case Late():
                task.phase = "late"
            case _ as never:
                assert_never(never)

    def _finish_of(self, worker: Worker, task: Task) -> Finish:
        assert task.outcome is not None
        return Finish(
            attempt=task.attempt,
            owner=worker.owner,
            token=task.token,
            outcome=task.outcome,
            verdict=self._verdict(task),
        )

    def _verdict(self, task: Task) -> Verdict:
        match task.outcome:
            case Accepted():
                return Done()
            case Rejected(reason=reason):
                return Refused(reason=reason)
            case Misconfigured():
                return RetryAt(due=DUE, rung=task.record.rung)
            case Unknown() if not self.may_repeat[task.record.delivery]:
                return DeadLetter(error_class="uncertain", message="the provider gave no answer")
            case _:
                if task.record.rung == LADDER_LENGTH:
                    return DeadLetter(error_class="exhausted", message="refused too often")
                return RetryAt(due=DUE, rung=task.record.rung + 1)

    def _append_verdict_record(self, task: Task) -> None:
        assert task.verdict is not None
        record, attempt = task.record, task.attempt
        self.tally.verdicts.setdefault((record.delivery, attempt, record.parks), set()).add(task.verdict)
        match task.verdict:
            case RetryAt(rung=rung):
                self._append(Record(record.delivery, attempt=attempt + 1, rung=rung, parks=0))
                self.tally.appended[record.delivery] += 1
            case Park():
                self._append(record._replace(attempt=attempt, parks=record.parks + 1))
                self.tally.appended[record.delivery] += 1
            case DeadLetter():
                self.dead_letters.append(record._replace(attempt=attempt))
                self.tally.appended[record.delivery] += 1
            case _:
                pass  # The event says it all.
        task.record_appended = True

    def _append_verdict_event(self, task: Task) -> None:
        assert task.verdict is not None
        record = task.record
        for unknown in range(record.attempt, task.attempt):
            self.events.append(Event(record.delivery, unknown, "unknown"))
        self.events.append(Event(record.delivery, task.attempt, kind_of_verdict(task.verdict)))
        task.phase = "appended"

    def _append_late_event(self, task: Task) -> None:
        assert task.outcome is not None
        self.events.append(Event(task.record.delivery, task.attempt, kind_of_outcome(task.outcome)))

    def _settle(self, worker: Worker, task: Task) -> None:
        assert task.settles is not None
        worker.waiting_settles.append((task.record.delivery, task.settles))

    # For whoever does the same with the real thing (protocol_real.py)

    def _on_claim(self, worker: Worker, task: Task, answer: ClaimAnswer, *, loses_answer: bool) -> None:
        """The claim was answered so."""

    def _on_release(self, worker: Worker, task: Task) -> None:
        """The claim was given back."""

    def _on_call(self, task: Task) -> None:
        """The provider was called, and answered the task's outcome."""

    def _on_finish(self, worker: Worker, task: Task, answer: FinishAnswer, *, loses_answer: bool) -> None:
        """The end of the call was stored, and answered so."""

    # The stores

    def lease_left(self, row: Row) -> float:
        return 0.0 if row.owner in self.ended_owners else row.lease_until - self.now_seconds

    def _store(self, delivery: int, row: Row | None) -> None:
        before = self.rows.get(delivery)
        if row is None:
            assert before is None
            return
        if row.state == "decided" and (before is None or before.token != row.token or before.state != "decided"):
            self.tally.decided[delivery] += 1
        assert before is None or row.source >= before.source
        assert before is None or row.attempt >= before.attempt
        assert before is None or not before.accepted or row.accepted == before.accepted
        self.rows[delivery] = row

    def _holds_claim(self, worker: Worker, task: Task) -> bool:
        row = self.rows.get(task.record.delivery)
        return row is not None and (row.state, row.owner, row.token) == ("claimed", worker.owner, task.token)

    def _write_settles(self, worker: Worker) -> None:
        for delivery, name in worker.waiting_settles:
            self._store(delivery, protocol.settle(self.rows.get(delivery), owner=name.owner, token=name.token))
        worker.waiting_settles.clear()

    def _has_uncommitted_records(self, delivery: int) -> bool:
        partition = delivery % PARTITIONS
        waiting = self.partitions[partition][self.committed[partition] :]
        return any(record.delivery == delivery for record in waiting)

    def _append(self, record: Record) -> None:
        self.partitions[record.delivery % PARTITIONS].append(record)

    def _lose(self, worker: Worker, task: Task) -> None:
        if task.phase != "done" or (task.record.delivery, task.settles) in worker.waiting_settles:
            self.tally.lost_tasks[task.record.delivery] += 1

    # The end of all trouble

    def drain(self, *, outcome: OutcomeWord, crash_first: bool) -> None:
        """Healthy workers read the log to its end; whoever still runs may finish what it began."""
        if crash_first:
            for worker in self.workers:
                self.crash(worker)
        healthy = self.start("drain")
        for partition in range(PARTITIONS):
            self.assign(partition, healthy)
        for _ in range(10_000):
            if self._is_drained(healthy):
                return
            self.poll(healthy, limit=10)
            for worker in self.workers:
                for task in worker.steppable():
                    self.step(worker, task, outcome=outcome)
                self._write_settles(worker)
            self.commit(healthy)
            self.advance(LEASE_SECONDS / 10)
        raise AssertionError("the log does not come to its end")

    def _is_drained(self, healthy: Worker) -> bool:
        return all(self.committed[p] == len(self.partitions[p]) for p in range(PARTITIONS)) and not any(
            worker.steppable() for worker in self.workers
        )
