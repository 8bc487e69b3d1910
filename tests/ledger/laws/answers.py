"""Laws about what a ledger answers: the protocol's rules, through a store."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from pabal.channels.suppression import suppression_key
from pabal.ledger import protocol
from pabal.ledger.protocol import GHOST, LATE, MAX_TAKEOVERS, Call, Claim, Decided, Finish, Held, Resume, Row, Source
from pabal.notification import Suppression
from pabal.outcome import (
    Accepted,
    Cancelled,
    DeadLetter,
    Deferred,
    Done,
    Expired,
    Misconfigured,
    Outcome,
    Park,
    Refused,
    Rejected,
    RetryAt,
    Suppressed,
    Unknown,
    Verdict,
)
from tests.ledger.laws.lab import BUSY, KEPT_UNTIL, LEASE_SECONDS, RETRY, Lab, LedgerHarness, Member

_DUE = datetime(2026, 3, 29, 1, 59, 59, 123_456, tzinfo=UTC)
_TAKEN = Accepted(provider_id="id-1", response="250 2.0.0 Ok: 한글 \U0001f514")

_OUTCOMES: tuple[Outcome, ...] = (
    _TAKEN,
    Accepted(),
    Deferred(reason="busy", retry_after_seconds=1.5, response="503", address_only=True),
    Rejected(reason="550 no such user"),
    Misconfigured(reason="535 bad credentials", response='"quoted" \\ and\nbroken'),
    Unknown(reason="no answer"),
)
_VERDICTS: tuple[Verdict, ...] = (
    Done(),
    RetryAt(due=_DUE, rung=3),
    Park(due=_DUE),
    DeadLetter(error_class="exhausted", message="it's over; DROP TABLE deliveries"),
    Expired(),
    Suppressed(),
    Cancelled(),
    Refused(reason="550 no such user"),
)


class AnswerLaws(LedgerHarness):
    """Claim, finish, settle, release: one by one, and in any order."""

    async def test_known_is_whatever_was_asked_about_by_any_worker_and_nothing_else(
        self, a: Member, b: Member, delivery: UUID
    ) -> None:
        claimed, ended, taken_back, strangers = uuid4(), delivery, uuid4(), [uuid4() for _ in range(990)]
        await a.claim(claimed)
        await b.finish(ended, await b.hold(ended))
        await b.ledger.cancel(taken_back, prune_after=KEPT_UNTIL.timestamp())

        for member in (a, b):
            found = await member.ledger.known([*strangers, claimed, ended, taken_back])
            assert set(found) == {claimed, ended, taken_back}
        assert list(await a.ledger.known(strangers)) == list(await a.ledger.known([])) == []

    async def test_what_is_free_is_called_and_nobody_else_may(self, a: Member, b: Member, delivery: UUID) -> None:
        first = await a.claim(delivery)
        others = [await a.claim(delivery), await b.claim(delivery)]

        assert first == Call(attempt=1)
        for other in others:
            assert isinstance(other, Held)
            assert 0 < other.seconds <= LEASE_SECONDS

    async def test_what_was_taken_back_is_never_called(self, a: Member, b: Member, delivery: UUID) -> None:
        answers = [await ledger.cancel(delivery, prune_after=1e10) for ledger in (a.ledger, b.ledger)]
        found = await b.claim(delivery)

        assert answers == ["cancelled"] * 2
        assert isinstance(found, Resume)
        assert found.verdict == Cancelled()

    async def test_a_call_under_way_is_not_taken_back_but_what_would_follow_is(
        self, a: Member, b: Member, delivery: UUID
    ) -> None:
        ask = await a.hold(delivery)

        answer = await b.ledger.cancel(delivery, prune_after=1e10)
        ended = await a.finish(delivery, ask)

        assert answer == "in_flight"
        assert ended == Decided(attempt=1, verdict=Cancelled())

    async def test_what_the_far_side_reports_to_have_is_not_called_again(
        self, a: Member, b: Member, delivery: UUID
    ) -> None:
        await a.finish(delivery, await a.hold(delivery))

        await b.ledger.acknowledge(delivery, _TAKEN)
        await b.ledger.acknowledge(uuid4(), _TAKEN)
        found = await a.claim(delivery, Source(2, 0))

        assert found == GHOST

    async def test_a_suppressed_recipient_is_not_called_until_that_is_lifted(self, a: Member, b: Member) -> None:
        gone = Suppression(tenant="shop", channel="email", address="a@b.c", reason="bounced", since=_DUE)
        recipient = suppression_key(tenant="shop", channel="email", address="a@b.c")
        asks = [msgspec.structs.replace(a.ask(), recipient=key) for key in (recipient, b"shop/email/other@b.c")]

        await b.ledger.suppress([gone, gone])
        refused, called = [await a.ledger.claim(uuid4(), ask) for ask in asks]
        await b.ledger.unsuppress([recipient, b"never there"])
        afterwards = await a.ledger.claim(uuid4(), msgspec.structs.replace(a.ask(), recipient=recipient))

        assert isinstance(refused, Resume)
        assert refused.verdict == Suppressed()
        assert called == afterwards == Call(attempt=1)

    async def test_claims_and_suppressions_of_one_moment_are_taken_in_order(self, a: Member) -> None:
        gone = Suppression(tenant="shop", channel="email", address="a@b.c", reason="bounced", since=_DUE)
        recipient = suppression_key(tenant="shop", channel="email", address="a@b.c")
        asks = [msgspec.structs.replace(a.ask(), recipient=recipient) for _ in range(3)]

        before, _, between, _, after = await asyncio.gather(
            a.ledger.claim(uuid4(), asks[0]),
            a.ledger.suppress([gone]),
            a.ledger.claim(uuid4(), asks[1]),
            a.ledger.unsuppress([recipient]),
            a.ledger.claim(uuid4(), asks[2]),
        )

        assert before == after == Call(attempt=1)
        assert isinstance(between, Resume)
        assert between.verdict == Suppressed()

    async def test_a_suppression_lifted_with_a_claim_in_one_moment_may_come_back_in_it(self, a: Member) -> None:
        gone = Suppression(tenant="shop", channel="email", address="a@b.c", reason="bounced", since=_DUE)
        recipient = suppression_key(tenant="shop", channel="email", address="a@b.c")
        asks = [msgspec.structs.replace(a.ask(), recipient=recipient) for _ in range(2)]
        await a.ledger.suppress([gone])

        _, lifted, _ = await asyncio.gather(
            a.ledger.unsuppress([recipient]), a.ledger.claim(uuid4(), asks[0]), a.ledger.suppress([gone])
        )
        again = await a.ledger.claim(uuid4(), asks[1])

        assert lifted == Call(attempt=1)
        assert isinstance(again, Resume)

    async def test_it_tells_everybody_whom_the_gate_refuses(self, a: Member, b: Member) -> None:
        both = [
            Suppression(tenant="shop", channel="email", address=address, reason="manual", since=_DUE)
            for address in ("a@b.c", "b@b.c")
        ]
        keys = [suppression_key(tenant="shop", channel="email", address=each.address) for each in both]

        await a.ledger.suppress(both)
        first = await b.ledger.suppressed()
        await b.ledger.unsuppress(keys[:1])
        then = await a.ledger.suppressed()

        assert set(keys) <= set(first)
        assert keys[1] in then
        assert keys[0] not in then

    async def test_a_claim_repeated_with_its_token_is_given_again(self, a: Member, delivery: UUID) -> None:
        ask = await a.hold(delivery)

        assert await a.ledger.claim(delivery, ask) == Call(attempt=1)

    @pytest.mark.parametrize("outcome", _OUTCOMES, ids=repr)
    async def test_every_outcome_comes_back_as_it_was(self, a: Member, b: Member, outcome: Outcome) -> None:
        delivery = uuid4()
        claim = await a.hold(delivery)
        verdict: Verdict = Done() if isinstance(outcome, Accepted) else RETRY

        answer = await a.finish(delivery, claim, outcome=outcome, verdict=verdict)

        assert answer == Decided(attempt=1, verdict=verdict)
        assert await b.claim(delivery) == Resume(
            attempt=1,
            verdict=verdict,
            outcome=outcome,
            owner=claim.owner,
            token=claim.token,
            provider=claim.provider if isinstance(outcome, Unknown) else None,
        )

    @pytest.mark.parametrize("verdict", _VERDICTS, ids=repr)
    async def test_every_verdict_comes_back_as_it_was(self, a: Member, b: Member, verdict: Verdict) -> None:
        delivery = uuid4()
        claim = await a.hold(delivery)

        answer = await a.finish(delivery, claim, verdict=verdict)

        assert answer == Decided(attempt=1, verdict=verdict)
        assert await b.claim(delivery) == Resume(
            attempt=1, verdict=verdict, outcome=BUSY, owner=claim.owner, token=claim.token
        )

    async def test_a_refused_claim_is_decided_uncalled(self, a: Member, b: Member, delivery: UUID) -> None:
        ask = a.ask(refusal=Expired())
        expired = Resume(attempt=1, verdict=Expired(), outcome=None, owner=ask.owner, token=ask.token)

        assert await a.ledger.claim(delivery, ask) == expired
        assert await b.claim(delivery) == expired

    async def test_a_verdict_is_decided_once(self, a: Member, b: Member, delivery: UUID) -> None:
        claim = await a.hold(delivery)
        stranger = b.ask()

        early = await b.finish(delivery, stranger, verdict=Expired())
        first = await a.finish(delivery, claim)
        again = await a.finish(delivery, claim, verdict=Expired())
        late = await b.finish(delivery, stranger, verdict=Expired())
        unknown = await a.finish(uuid4(), claim)

        assert [first, again] == [Decided(attempt=1, verdict=RETRY)] * 2
        assert [early, late, unknown] == [LATE] * 3

    async def test_settled_records_and_older_ones_are_ghosts(self, a: Member, b: Member, delivery: UUID) -> None:
        claim = await a.hold(delivery)
        await a.finish(delivery, claim)
        a.settle(delivery, claim)

        # By its own ledger at once: what was settled before a claim is settled for it.
        same = await a.claim(delivery)
        following = await b.claim(delivery, Source(2, 0))
        older = await a.claim(delivery)

        assert same == older == GHOST
        assert following == Call(attempt=2)

    async def test_only_the_claims_own_name_settles(self, a: Member, b: Member, delivery: UUID) -> None:
        claim = await a.hold(delivery)
        await a.finish(delivery, claim)

        b.settle(delivery, b.ask())
        a.settle(delivery, a.ask())

        assert [type(await each.claim(delivery)) for each in (a, b)] == [Resume, Resume]

    async def test_what_is_given_back_is_free_for_all(self, a: Member, b: Member, delivery: UUID) -> None:
        claim = await a.hold(delivery)

        await b.release(delivery, b.ask())
        held = await b.claim(delivery)
        await a.release(delivery, claim)
        free = await b.claim(delivery)

        assert isinstance(held, Held)
        assert free == Call(attempt=1)

    async def test_a_claim_whose_lease_ended_is_taken_over(self, lab: Lab, a: Member, b: Member) -> None:
        repeatable, once = uuid4(), uuid4()
        held, risky = await a.hold(repeatable), await a.hold(once)
        await lab.store.let_time_pass(LEASE_SECONDS + 1)

        taken_over = await b.claim(repeatable)
        uncertain = await b.claim(once, may_repeat=False)
        late = [await a.finish(repeatable, held), await a.finish(once, risky)]

        assert taken_over == Call(attempt=2, took_over=1)
        assert isinstance(uncertain, Resume)
        assert isinstance(uncertain.verdict, DeadLetter)
        assert uncertain.verdict.error_class == "uncertain"
        assert late == [LATE, LATE]

    async def test_a_record_that_loses_its_worker_time_and_again_is_dead_lettered(
        self, lab: Lab, a: Member, delivery: UUID
    ) -> None:
        answers = [await a.claim(delivery)]
        for _ in range(MAX_TAKEOVERS + 1):
            await lab.store.let_time_pass(LEASE_SECONDS + 1)
            answers.append(await a.claim(delivery))

        assert answers[:-1] == [
            Call(attempt=1),
            *(Call(attempt=n + 1, took_over=n) for n in range(1, MAX_TAKEOVERS + 1)),
        ]
        assert isinstance(answers[-1], Resume)
        assert isinstance(answers[-1].verdict, DeadLetter)

    async def test_an_acceptance_is_for_ever_however_late(self, lab: Lab, a: Member, b: Member, delivery: UUID) -> None:
        slow = await a.hold(delivery)
        await lab.store.let_time_pass(LEASE_SECONDS + 1)
        quick = b.ask()
        await b.ledger.claim(delivery, quick)
        await b.finish(delivery, quick, attempt=2)
        b.settle(delivery, quick)

        told = await a.finish(delivery, slow, outcome=_TAKEN, verdict=Done())
        asked = [await b.claim(delivery, source) for source in (Source(1, 0), Source(2, 0), Source(3, 0))]
        a.settle(delivery, slow)
        settled = [await a.claim(delivery, source) for source in (Source(1, 0), Source(3, 0))]

        assert told == Decided(attempt=1, verdict=Done())
        assert asked == [Resume(attempt=1, verdict=Done(), outcome=_TAKEN, owner=slow.owner, token=slow.token)] * 3
        assert settled == [GHOST, GHOST]

    @pytest.mark.parametrize("seed", range(4))
    async def test_a_ledger_does_what_the_protocol_says(self, lab: Lab, a: Member, b: Member, seed: int) -> None:
        """Three deliveries, two workers, 150 calls in random order, compared with the pure functions."""
        chance = random.Random(seed)
        model = _Model()
        deliveries = [UUID(int=chance.getrandbits(128)) for _ in range(3)]
        claims = {delivery: a.ask() for delivery in deliveries}

        for _ in range(150):
            delivery, member = chance.choice(deliveries), chance.choice([a, b])
            match chance.choice(["claim", "claim", "claim", "finish", "finish", "settle", "release", "wait"]):
                case "claim":
                    source = Source(chance.choice([1, 1, 2, 3]), chance.choice([0, 0, 1]))
                    refusal = chance.choice([None, None, None, Park(due=_DUE)])
                    ask = member.ask(source, may_repeat=chance.random() < 0.7, refusal=refusal)
                    expected = model.claim(delivery, ask)
                    answer = await member.ledger.claim(delivery, ask)
                    assert _without_seconds(answer) == _without_seconds(expected)
                    claims[delivery] = ask if isinstance(answer, Call) else claims[delivery]
                case "finish":
                    end = Finish(
                        attempt=model.attempt(delivery),
                        owner=claims[delivery].owner,
                        token=claims[delivery].token,
                        outcome=chance.choice(_OUTCOMES[1:]),
                        verdict=chance.choice(_VERDICTS[1:]),
                    )
                    assert await member.ledger.finish(delivery, end) == model.finish(delivery, end)
                case "settle":
                    member.settle(delivery, claims[delivery])
                    model.change(delivery, protocol.settle, claims[delivery])
                    await member.release(uuid4(), claims[delivery])  # a settlement waits for a transaction
                case "release":
                    await member.release(delivery, claims[delivery])
                    model.change(delivery, protocol.release, claims[delivery])
                case _:
                    await lab.store.let_time_pass(LEASE_SECONDS * 0.4)
                    model.now_seconds += LEASE_SECONDS * 0.4


class _Model:
    """The protocol over a dictionary."""

    def __init__(self) -> None:
        self.now_seconds = 0.0
        self._rows: dict[UUID, Row | None] = {}

    def claim(self, delivery: UUID, ask: Claim) -> protocol.ClaimAnswer:
        self._rows[delivery], answer = protocol.claim(
            self._rows.get(delivery),
            ask,
            now_seconds=self.now_seconds,
            lease_left=lambda row: row.lease_until - self.now_seconds,
        )
        return answer

    def finish(self, delivery: UUID, ask: Finish) -> protocol.FinishAnswer:
        self._rows[delivery], answer = protocol.finish(self._rows.get(delivery), ask)
        return answer

    def change(self, delivery: UUID, how: Callable[..., Row | None], claim: Claim) -> None:
        self._rows[delivery] = how(self._rows.get(delivery), owner=claim.owner, token=claim.token)

    def attempt(self, delivery: UUID) -> int:
        row = self._rows.get(delivery)
        return row.attempt if row else 1


def _without_seconds(answer: Any) -> Any:
    """Leases are counted on the store's own clock, which may tick."""
    return msgspec.structs.replace(answer, seconds=0.0) if isinstance(answer, Held) else answer
