"""The send protocol: its laws in a world that fails at every step (its table: test_protocol_table.py)."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pabal.ledger.protocol import MAX_TAKEOVERS
from pabal.outcome import Accepted, Cancelled, DeadLetter, Done, Expired, Park, Refused, Suppressed, Verdict
from tests.ledger.protocol_facts import DUE, LEASE_SECONDS, OutcomeWord, Phase, Task, Worker, kind_of_verdict
from tests.ledger.protocol_model import World

PICK = st.integers(min_value=0, max_value=999)
"""Which of what there is at the moment: taken modulo its number."""

OUTCOME_WORDS: st.SearchStrategy[OutcomeWord] = st.sampled_from(
    ("accepted", "deferred", "rejected", "misconfigured", "unknown")
)
LAST_OUTCOME_WORDS: st.SearchStrategy[OutcomeWord] = st.sampled_from(("accepted", "deferred", "rejected", "unknown"))
"""What the provider says once all is well: anything that comes to an end (a misconfiguration goes on for ever)."""
PHASES: st.SearchStrategy[Phase] = st.sampled_from(("permitted", "called", "decided", "appended", "done"))
REFUSALS: st.SearchStrategy[Verdict] = st.sampled_from((Park(due=DUE), Expired()))


class SendProtocol(RuleBasedStateMachine):
    """Any order of accepting, working up to some step, losing answers, crashing, moving partitions, redriving."""

    def __init__(self, world: World | None = None) -> None:
        super().__init__()
        self.world = world or World()

    @initialize(may_repeat=st.booleans(), last_outcome=LAST_OUTCOME_WORDS, crashes_last=st.booleans())
    def begin(self, may_repeat: bool, last_outcome: OutcomeWord, crashes_last: bool) -> None:
        self.last_outcome = last_outcome
        self.crashes_last = crashes_last
        self.world.accept(may_repeat=may_repeat)
        for partition, name in enumerate(("a", "b")):
            self.hand_over(partition, self.world.start(name))

    # Luck and faults

    @precondition(lambda self: len(self.world.may_repeat) < 3)
    @rule(may_repeat=st.booleans())
    def accept(self, may_repeat: bool) -> None:
        self.world.accept(may_repeat=may_repeat)

    @rule(pick=PICK)
    def duplicate_a_record(self, pick: int) -> None:
        records = [record for partition in self.world.partitions for record in partition]
        self.world.duplicate(records[pick % len(records)])

    @precondition(lambda self: self.world.dead_letters)
    @rule(pick=PICK)
    def redrive_a_dead_letter(self, pick: int) -> None:
        self.world.redrive(self.world.dead_letters[pick % len(self.world.dead_letters)])

    @rule(pick=PICK)
    def take_a_delivery_back(self, pick: int) -> None:
        self.world.cancel(pick % len(self.world.may_repeat))

    @rule(pick=PICK, lifts=st.booleans())
    def suppress_an_address(self, pick: int, lifts: bool) -> None:
        change = self.world.unsuppress if lifts else self.world.suppress
        change(pick % len(self.world.may_repeat))

    @rule(seconds=st.sampled_from((LEASE_SECONDS / 2, LEASE_SECONDS, LEASE_SECONDS)))
    def let_leases_end(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(pick=PICK, crashes=st.booleans())
    def replace_a_worker(self, pick: int, crashes: bool) -> None:
        """Another of its name takes its partitions; the former crashed, or is only believed to have."""
        former = self.running()[pick % len(self.running())]
        partitions = [partition for partition, owner in enumerate(self.world.owners) if owner is former]
        if crashes:
            self.world.crash(former)
        successor = self.world.start(former.name)
        for partition in partitions:
            self.hand_over(partition, successor)

    @rule(partition=st.sampled_from((0, 1)), pick=PICK)
    def move_a_partition(self, partition: int, pick: int) -> None:
        self.hand_over(partition, self.running()[pick % len(self.running())])

    # Work

    @rule(limit=st.integers(min_value=1, max_value=5))
    def poll(self, limit: int) -> None:
        for worker in self.running():
            self.world.poll(worker, limit=limit)

    @precondition(lambda self: self.steppable())
    @rule(pick=PICK, phase=PHASES, outcome=OUTCOME_WORDS)
    def work_up_to(self, pick: int, phase: Phase, outcome: OutcomeWord) -> None:
        worker, task = self.choose(pick)
        self.proceed(worker, task, phase=phase, outcome=outcome)

    @precondition(lambda self: self.steppable())
    @rule(pick=PICK, phase=PHASES, outcome=OUTCOME_WORDS)
    def be_overtaken(self, pick: int, phase: Phase, outcome: OutcomeWord) -> None:
        """A worker is taken for dead in the middle of a call, and another deals with the record meanwhile."""
        worker, slow = self.choose(pick)
        self.proceed(worker, slow, phase="permitted", outcome=outcome)
        successor = self.world.start(worker.name)
        self.hand_over(slow.partition, successor)
        for task in successor.steppable():
            if task.record == slow.record:
                self.proceed(successor, task, phase=phase, outcome=outcome)

    @precondition(lambda self: self.steppable())
    @rule(pick=PICK, phase=st.sampled_from(("asking", "called", "called")), outcome=OUTCOME_WORDS)
    def work_and_lose_the_ledgers_answer(self, pick: int, phase: Phase, outcome: OutcomeWord) -> None:
        worker, task = self.choose(pick)
        if phase == "called":
            self.proceed(worker, task, phase=phase, outcome=outcome)
        if task.phase == phase:
            self.world.step(worker, task, loses_answer=True)

    @precondition(lambda self: self.steppable())
    @rule(pick=PICK, refusal=REFUSALS)
    def be_refused(self, pick: int, refusal: Verdict) -> None:
        worker, task = self.choose(pick)
        self.world.step(worker, task, refusal=refusal)

    @precondition(lambda self: self.steppable())
    @rule(pick=PICK)
    def give_back(self, pick: int) -> None:
        worker, task = self.choose(pick)
        if task.phase == "asking":
            self.world.step(worker, task)
        if task.phase == "permitted":
            self.world.step(worker, task, gives_back=True)

    @rule()
    def commit(self) -> None:
        for worker in self.running():
            self.world.commit(worker)

    def hand_over(self, partition: int, worker: Worker) -> None:
        self.world.assign(partition, worker)
        self.world.poll(worker, limit=3)

    def proceed(self, worker: Worker, task: Task, *, phase: Phase, outcome: OutcomeWord) -> None:
        """Step until the phase is reached, the end, or a claim that is held."""
        for _ in range(7):
            if task.phase not in (phase, "done"):
                self.world.step(worker, task, outcome=outcome)

    def running(self) -> list[Worker]:
        return [worker for worker in self.world.workers if worker.running]

    def steppable(self) -> list[tuple[Worker, Task]]:
        return [(worker, task) for worker in self.running() for task in worker.steppable()]

    def choose(self, pick: int) -> tuple[Worker, Task]:
        steppable = self.steppable()
        return steppable[pick % len(steppable)]

    # What always holds

    @invariant()
    def one_claim_permits_one_call(self) -> None:
        assert all(calls == 1 for calls in self.world.tally.calls_by_claim.values())

    @invariant()
    def one_attempt_is_one_call(self) -> None:
        assert all(calls == 1 for calls in self.world.tally.calls_by_attempt.values())

    @invariant()
    def nothing_is_claimed_after_a_stored_acceptance(self) -> None:
        assert self.world.tally.claimed_after_acceptance == 0

    @invariant()
    def what_was_taken_back_is_not_called_but_for_the_call_under_way(self) -> None:
        assert self.world.tally.called_after_cancel == 0

    @invariant()
    def a_suppressed_address_is_not_called(self) -> None:
        assert self.world.tally.called_while_suppressed == 0

    @invariant()
    def a_verdict_is_decided_once(self) -> None:
        for verdicts in self.world.tally.verdicts.values():
            assert len(verdicts - {Done()}) <= 1

    @invariant()
    def only_calls_that_were_under_way_become_uncertain(self) -> None:
        tally = self.world.tally
        for delivery, uncertain in tally.uncertain_by_takeover.items():
            needed = MAX_TAKEOVERS + 1 if self.world.may_repeat[delivery] else 1
            assert uncertain * needed <= tally.exposed[delivery]

    @invariant()
    def no_record_is_called_for_ever(self) -> None:
        assert all(calls <= MAX_TAKEOVERS + 1 for calls in self.world.tally.calls_by_source.values())

    @invariant()
    def records_stay_near_one_for_each_verdict(self) -> None:
        tally = self.world.tally
        for delivery, appended in tally.appended.items():
            assert appended <= tally.decided[delivery] + tally.lost_tasks[delivery]

    def teardown(self) -> None:
        world = self.world
        if not world.may_repeat:
            return  # Hypothesis gave up before the first step.
        world.drain(outcome=self.last_outcome, crash_first=self.crashes_last)

        for delivery in world.may_repeat:
            row = world.rows[delivery]
            said = {(event.attempt, event.kind) for event in world.events if event.delivery == delivery}
            if row.accepted:
                assert row.verdict == Done() or row.state == "claimed"
                assert isinstance(row.outcome, Accepted)
                assert (row.accepted, "sent") in said or delivery in world.tally.unheard_acceptances
            else:
                assert delivery not in world.tally.known_taken
                assert row.state == "decided"
                assert isinstance(row.verdict, DeadLetter | Expired | Refused | Cancelled | Suppressed)
                assert (row.attempt, kind_of_verdict(row.verdict)) in said
                assert row.source == max(world.sources(delivery))
            if isinstance(row.verdict, DeadLetter):
                assert (delivery, row.attempt) in {(dead.delivery, dead.attempt) for dead in world.dead_letters}
        self.one_claim_permits_one_call()
        self.one_attempt_is_one_call()
        self.nothing_is_claimed_after_a_stored_acceptance()
        self.what_was_taken_back_is_not_called_but_for_the_call_under_way()
        self.a_verdict_is_decided_once()
        self.only_calls_that_were_under_way_become_uncertain()
        self.records_stay_near_one_for_each_verdict()


SendProtocol.TestCase.settings = settings(
    max_examples=400, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSendProtocol = SendProtocol.TestCase
