"""The send protocol: each line of its table, and its laws in a world that fails at every step."""

from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pabal.outcome import (
    Accepted,
    DeadLetter,
    Deferred,
    Done,
    Expired,
    Outcome,
    Park,
    Refused,
    RetryAt,
    Unknown,
    Verdict,
)
from pabal.protocol import (
    GHOST,
    LATE,
    MAX_TAKEOVERS,
    Call,
    Claim,
    ClaimAnswer,
    Decided,
    Finish,
    Held,
    Resume,
    Row,
    Source,
    claim,
    finish,
    release,
    settle,
)
from tests.protocol_model import DUE, LEASE_SECONDS, OutcomeWord, Phase, Task, Worker, World, kind_of_verdict

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

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

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
                assert isinstance(row.verdict, DeadLetter | Expired | Refused)
                assert (row.attempt, kind_of_verdict(row.verdict)) in said
                assert row.source == max(world.sources(delivery))
            if isinstance(row.verdict, DeadLetter):
                assert (delivery, row.attempt) in {(dead.delivery, dead.attempt) for dead in world.dead_letters}
        self.one_claim_permits_one_call()
        self.one_attempt_is_one_call()
        self.nothing_is_claimed_after_a_stored_acceptance()
        self.a_verdict_is_decided_once()
        self.only_calls_that_were_under_way_become_uncertain()
        self.records_stay_near_one_for_each_verdict()


SendProtocol.TestCase.settings = settings(
    max_examples=400, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSendProtocol = SendProtocol.TestCase


# The table: what a record of attempt 2 finds

OURS = Claim(
    source=Source(2, 0),
    owner=7,
    token=70,
    lease_seconds=30.0,
    provider="smtp",
    may_repeat=True,
    prune_after=900.0,
)
RETRY = RetryAt(due=DUE, rung=1)
BUSY = Deferred(reason="busy")
TAKEN = Accepted(provider_id="abc")
CRASHED = Unknown(reason="the worker's lease ended during the call")
UNCERTAIN = DeadLetter(error_class="uncertain", message="a worker was lost during the call; it may have been sent")


def theirs(**changes: Any) -> Row:
    """A row in another worker's name."""
    row = Row(
        source=Source(2, 0),
        attempt=2,
        state="claimed",
        owner=1,
        token=10,
        lease_until=100.0,
        provider="smtp",
        prune_after=500.0,
    )
    return msgspec.structs.replace(row, **changes)


def ask(row: Row | None, request: Claim = OURS, *, now_seconds: float = 50.0) -> tuple[Row | None, ClaimAnswer]:
    return claim(row, request, now_seconds=now_seconds, lease_left=lambda row: row.lease_until - now_seconds)


NEWLY_CLAIMED = Row(
    source=Source(2, 0),
    attempt=2,
    state="claimed",
    owner=7,
    token=70,
    lease_until=80.0,
    provider="smtp",
    prune_after=900.0,
)


@pytest.mark.parametrize(
    "row",
    [
        None,
        theirs(source=Source(1, 0), attempt=1, state="decided", verdict=RETRY, outcome=BUSY, settled=True),
        theirs(source=Source(1, 0), attempt=1, state="decided", verdict=RETRY, outcome=BUSY, settled=False),
        theirs(source=Source(1, 0), attempt=2, state="decided", verdict=Park(due=DUE), settled=True),
        theirs(source=Source(1, 3), attempt=1, state="decided", verdict=UNCERTAIN, outcome=CRASHED, settled=True),
        theirs(state="free"),
    ],
    ids=["none", "to be retried", "to be retried, unsettled", "parked", "redriven", "given back"],
)
def test_a_record_whose_turn_it_is_is_claimed(row: Row | None) -> None:
    after, answer = ask(row)

    assert answer == Call(attempt=2)
    assert after == NEWLY_CLAIMED


def test_what_the_gate_refuses_is_decided_without_a_call() -> None:
    after, answer = ask(None, msgspec.structs.replace(OURS, refusal=Expired()))

    assert answer == Resume(attempt=2, verdict=Expired(), outcome=None, owner=7, token=70)
    assert after == msgspec.structs.replace(NEWLY_CLAIMED, state="decided", verdict=Expired())


@pytest.mark.parametrize("source", [Source(1, 0), Source(2, 0), Source(3, 0)])
@pytest.mark.parametrize("settled", [True, False])
def test_a_record_of_something_accepted_is_done(source: Source, settled: bool) -> None:
    row = theirs(state="decided", verdict=Done(), outcome=TAKEN, accepted=1, settled=settled)

    after, answer = ask(row, msgspec.structs.replace(OURS, source=source))

    assert after == row
    assert answer == (GHOST if settled else Resume(attempt=1, verdict=Done(), outcome=TAKEN, owner=1, token=10))


def test_a_record_waits_while_another_claim_is_alive() -> None:
    row = theirs()

    assert ask(row) == (row, Held(seconds=50.0))
    assert ask(row, msgspec.structs.replace(OURS, refusal=Expired())) == (row, Held(seconds=50.0))


def test_a_claim_whose_lease_ended_is_taken_over_with_the_next_attempt() -> None:
    after, answer = ask(theirs(), now_seconds=100.0)

    assert answer == Call(attempt=3, took_over=2)
    assert after == msgspec.structs.replace(NEWLY_CLAIMED, attempt=3, lease_until=130.0, takeovers=1)


def test_a_taken_over_record_is_found_again_by_its_own_copy() -> None:
    crashed_once, _ = ask(theirs(), now_seconds=100.0)

    crashed_twice, answer = ask(crashed_once, msgspec.structs.replace(OURS, owner=8, token=80), now_seconds=200.0)

    assert answer == Call(attempt=4, took_over=3)
    assert crashed_twice is not None
    assert crashed_twice.takeovers == 2


def test_a_claim_whose_call_may_not_be_repeated_becomes_uncertain() -> None:
    after, answer = ask(theirs(), msgspec.structs.replace(OURS, may_repeat=False), now_seconds=100.0)

    assert answer == Resume(attempt=2, verdict=UNCERTAIN, outcome=CRASHED, owner=7, token=70)
    assert after == theirs(state="decided", owner=7, token=70, verdict=UNCERTAIN, outcome=CRASHED)


def test_a_record_that_loses_a_worker_with_each_call_is_dead_lettered() -> None:
    row: Row | None = theirs(lease_until=0.0)

    for token in range(MAX_TAKEOVERS):
        row, answer = ask(row, msgspec.structs.replace(OURS, token=token, lease_seconds=-1.0))
        assert isinstance(answer, Call)
    row, answer = ask(row)

    assert answer == Resume(attempt=2 + MAX_TAKEOVERS, verdict=UNCERTAIN, outcome=CRASHED, owner=7, token=70)


def test_what_is_decided_but_not_settled_is_told_again() -> None:
    row = theirs(state="decided", verdict=RETRY, outcome=BUSY)

    assert ask(row) == (row, Resume(attempt=2, verdict=RETRY, outcome=BUSY, owner=1, token=10))


@pytest.mark.parametrize(
    "row",
    [
        theirs(state="decided", verdict=RETRY, outcome=BUSY, settled=True),
        theirs(source=Source(2, 1)),
        theirs(source=Source(3, 0), attempt=3),
        theirs(source=Source(3, 0), attempt=3, state="free"),
        theirs(source=Source(3, 0), attempt=3, state="decided", verdict=RETRY),
        theirs(source=Source(1, 0), attempt=1, state="decided", verdict=Expired(), settled=True),
    ],
    ids=["settled", "a later park", "a later attempt claimed", "given back", "decided", "final"],
)
def test_a_copy_of_something_dealt_with_is_a_ghost(row: Row) -> None:
    assert ask(row) == (row, GHOST)


def test_a_claim_whose_answer_got_lost_is_given_again() -> None:
    claimed, first = ask(theirs(), now_seconds=100.0)

    again, second = ask(claimed, now_seconds=140.0)

    assert second == first == Call(attempt=3, took_over=2)
    assert again == msgspec.structs.replace(NEWLY_CLAIMED, attempt=3, lease_until=170.0, takeovers=1)


def test_a_takeover_that_was_given_back_keeps_its_number() -> None:
    _, answer = ask(theirs(attempt=3, state="free"))

    assert answer == Call(attempt=3, took_over=2)


def test_an_attempt_that_may_have_been_called_is_never_called_again() -> None:
    row = theirs(source=Source(1, 0), attempt=4, state="decided", verdict=RETRY, outcome=BUSY, settled=True)

    _, answer = ask(row)

    assert isinstance(answer, Call)
    assert answer.attempt == 5


# How a call ends


def end(outcome: Outcome = BUSY, verdict: Verdict = RETRY, *, attempt: int = 2, token: int = 10) -> Finish:
    return Finish(attempt=attempt, owner=1, token=token, outcome=outcome, verdict=verdict)


def test_the_end_of_a_call_decides() -> None:
    after, answer = finish(theirs(), end())

    assert answer == Decided(attempt=2, verdict=RETRY)
    assert after == theirs(state="decided", verdict=RETRY, outcome=BUSY)


def test_an_accepted_call_is_remembered() -> None:
    after, answer = finish(theirs(), end(TAKEN, Done()))

    assert answer == Decided(attempt=2, verdict=Done())
    assert after == theirs(state="decided", verdict=Done(), outcome=TAKEN, accepted=2)


@pytest.mark.parametrize("settled", [True, False])
def test_a_verdict_is_decided_once(settled: bool) -> None:
    row = theirs(state="decided", verdict=RETRY, outcome=BUSY, settled=settled)

    assert finish(row, end(BUSY, Expired())) == (row, Decided(attempt=2, verdict=RETRY))


@pytest.mark.parametrize(
    "row",
    [
        None,
        theirs(owner=2),
        theirs(token=11),
        theirs(attempt=3),
        theirs(token=11, state="free"),
        theirs(token=11, state="decided", verdict=RETRY),
        theirs(token=11, state="decided", verdict=Done(), outcome=TAKEN, accepted=3, settled=True),
    ],
)
def test_the_end_of_a_claim_that_was_taken_over_changes_nothing(row: Row | None) -> None:
    assert finish(row, end()) == (row, LATE)


@pytest.mark.parametrize("verdict", [RETRY, UNCERTAIN, Expired(), Refused(reason="unknown")])
@pytest.mark.parametrize("settled", [True, False])
def test_a_late_acceptance_replaces_the_verdict(verdict: Verdict, settled: bool) -> None:
    row = theirs(attempt=3, token=11, state="decided", verdict=verdict, outcome=BUSY, settled=settled)

    after, answer = finish(row, end(TAKEN, Done()))

    assert answer == Decided(attempt=2, verdict=Done())
    assert after == theirs(attempt=3, token=10, state="decided", verdict=Done(), outcome=TAKEN, accepted=2)


def test_a_late_acceptance_makes_the_call_under_way_the_last() -> None:
    row = theirs(attempt=3, owner=7, token=70)

    accepted, late = finish(row, end(TAKEN, Done()))
    asked = ask(accepted, msgspec.structs.replace(OURS, owner=8))
    ended, decided = finish(accepted, Finish(attempt=3, owner=7, token=70, outcome=BUSY, verdict=RETRY))

    assert late == LATE
    assert accepted == theirs(attempt=3, owner=7, token=70, accepted=2, outcome=TAKEN)
    assert asked == (accepted, Resume(attempt=2, verdict=Done(), outcome=TAKEN, owner=7, token=70))
    assert decided == Decided(attempt=2, verdict=Done())
    assert ended == theirs(attempt=3, owner=7, token=70, state="decided", verdict=Done(), accepted=2, outcome=TAKEN)


@pytest.mark.parametrize(
    "row",
    [
        theirs(attempt=3, accepted=2, outcome=TAKEN, lease_until=0.0),
        theirs(attempt=3, accepted=2, outcome=TAKEN, state="free"),
        theirs(attempt=3, accepted=2, outcome=TAKEN, owner=7, token=70),
    ],
    ids=["its worker was lost", "given back", "our own, uncalled"],
)
def test_an_acceptance_ends_a_later_claim_that_nobody_uses(row: Row) -> None:
    after, answer = ask(row)

    assert answer == Resume(attempt=2, verdict=Done(), outcome=TAKEN, owner=row.owner, token=row.token)
    assert after == msgspec.structs.replace(row, state="decided", verdict=Done())


def test_the_repeated_end_of_a_call_learns_of_a_late_acceptance() -> None:
    decided, _ = finish(theirs(attempt=3, token=11), end(attempt=3, token=11))
    accepted, _ = finish(decided, end(TAKEN, Done()))

    assert finish(accepted, end(attempt=3, token=11)) == (accepted, Decided(attempt=2, verdict=Done()))


def test_the_end_of_a_claim_that_was_given_back_is_late() -> None:
    row = theirs(state="free")

    assert finish(row, end()) == (row, LATE)
    assert finish(row, end(TAKEN, Done()))[1] == Decided(attempt=2, verdict=Done())


# The rest


@pytest.mark.parametrize("change", [{"owner": 2}, {"token": 11}, {"state": "claimed"}, {"state": "free"}])
def test_only_the_claim_that_was_decided_is_settled(change: dict[str, Any]) -> None:
    row = theirs(state="decided", verdict=RETRY, outcome=BUSY)
    other = msgspec.structs.replace(row, **change)

    assert settle(row, owner=1, token=10) == msgspec.structs.replace(row, settled=True)
    assert settle(other, owner=1, token=10) == other
    assert settle(None, owner=1, token=10) is None


@pytest.mark.parametrize("change", [{"owner": 2}, {"token": 11}, {"state": "decided"}, {"state": "free"}])
def test_only_a_claim_of_ones_own_is_given_back(change: dict[str, Any]) -> None:
    other = theirs(**change)

    assert release(theirs(), owner=1, token=10) == theirs(state="free")
    assert release(other, owner=1, token=10) == other
    assert release(None, owner=1, token=10) is None


def test_the_former_verdicts_records_do_not_settle_a_late_acceptance() -> None:
    decided, _ = finish(theirs(attempt=3, token=11), end(attempt=3, token=11))
    accepted, _ = finish(decided, end(TAKEN, Done()))

    assert settle(accepted, owner=1, token=11) == accepted
