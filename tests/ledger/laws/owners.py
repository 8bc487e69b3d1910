"""Laws about many at once, and about the ends of tasks, ledgers and processes."""

import asyncio
from asyncio.subprocess import PIPE, Process
from collections import Counter
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from pabal.errors import LedgerUnavailable, OwnerEnded
from pabal.ledger.protocol import GHOST, LATE, Call, Decided, Held, Resume, Source
from pabal.outcome import Accepted, Done
from tests.ledger.laws.lab import BUSY, KEPT_UNTIL, LEASE_SECONDS, RETRY, Lab, LedgerHarness, Member

ROOT = Path(__file__).parents[3]


class ConcurrencyLaws(LedgerHarness):
    """Many tasks, several ledgers, one store."""

    async def test_of_many_claims_at_once_exactly_one_is_called(self, a: Member, b: Member, delivery: UUID) -> None:
        answers = await asyncio.gather(*(each.claim(delivery) for each in [a, b] * 50))

        assert Counter(type(answer) for answer in answers) == {Call: 1, Held: 99}

    async def test_of_many_claims_of_a_following_record_exactly_one_is_called(self, a: Member, b: Member) -> None:
        deliveries = [uuid4() for _ in range(20)]
        for number, delivery in enumerate(deliveries):
            member = (a, b)[number % 2]
            await member.finish(delivery, await member.hold(delivery))

        claims = (each.claim(delivery, Source(2, 0)) for _ in range(4) for delivery in deliveries for each in (a, b))
        answers = await asyncio.gather(*claims)

        assert Counter(type(answer) for answer in answers) == {Call: 20, Held: 140}

    async def test_each_of_many_deliveries_is_called_and_decided_once(self, a: Member, b: Member) -> None:
        deliveries = [uuid4() for _ in range(150)]
        calls: Counter[UUID] = Counter()
        decided: Counter[UUID] = Counter()

        async def work(member: Member, delivery: UUID) -> None:
            ask = member.ask()
            if isinstance(await member.ledger.claim(delivery, ask), Call):
                calls[delivery] += 1
                answers = await asyncio.gather(*(member.finish(delivery, ask) for _ in range(2)))
                decided[delivery] += answers == [Decided(attempt=1, verdict=RETRY)] * 2
                member.settle(delivery, ask)

        await asyncio.gather(*(work(member, delivery) for delivery in deliveries for member in (a, b, a)))
        found = await asyncio.gather(*(a.claim(delivery) for delivery in deliveries))

        assert calls == decided == dict.fromkeys(deliveries, 1)
        # What the other ledger settled may still wait there for a transaction.
        assert {type(answer) for answer in found} <= {type(GHOST), Resume}

    async def test_a_cancelled_claim_can_be_repeated(self, a: Member) -> None:
        claims = [(uuid4(), a.ask()) for _ in range(20)]
        tasks = [asyncio.ensure_future(a.ledger.claim(*claim)) for claim in claims]
        untouched = [asyncio.create_task(a.claim(uuid4())) for _ in claims]
        for number, task in enumerate(tasks):
            if number % 5 == 0:
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        answers = [await a.ledger.claim(*claim) for claim in claims]

        assert answers == await asyncio.gather(*untouched) == [Call(attempt=1)] * len(claims)


class OwnerLaws(LedgerHarness):
    """Who holds a claim, and until when."""

    async def test_owners_and_tokens_are_never_used_again(self, lab: Lab) -> None:
        members = [await lab.member("a") for _ in range(3)]
        await members[2].ledger.close()
        members.append(await lab.member("a"))

        assert len({member.ledger.owner for member in members}) == 4
        assert len({members[3].ledger.new_token() for _ in range(100)}) == 100

    async def test_a_new_worker_of_the_same_name_ends_the_formers_leases(
        self, lab: Lab, a: Member, delivery: UUID
    ) -> None:
        await a.hold(delivery)
        other = await lab.member("b")
        held = await other.claim(delivery)

        successor = await lab.member("a")

        assert isinstance(held, Held)
        assert await successor.claim(delivery) == Call(attempt=2, took_over=1)

    async def test_a_worker_whose_leases_were_ended_claims_nothing_more(self, lab: Lab, a: Member) -> None:
        held, taken = uuid4(), uuid4()
        claims = [await a.hold(held), await a.hold(taken)]
        await lab.member("a")

        with pytest.raises(OwnerEnded):
            await a.claim(uuid4())

        # What it did before still counts.
        assert await a.finish(held, claims[0]) == Decided(attempt=1, verdict=RETRY)
        with pytest.raises(OwnerEnded):
            await a.claim(held, Source(2, 0))
        assert await a.finish(taken, claims[1], outcome=Accepted(), verdict=Done()) == Decided(
            attempt=1, verdict=Done()
        )

    async def test_closing_ends_leases(self, a: Member, b: Member, delivery: UUID) -> None:
        claim = await a.hold(delivery)
        await a.ledger.close()

        assert await b.claim(delivery) == Call(attempt=2, took_over=1)
        assert await b.finish(delivery, claim) == LATE

    async def test_what_was_settled_before_closing_is_settled(self, a: Member, b: Member) -> None:
        deliveries = [uuid4() for _ in range(5)]
        for delivery in deliveries:
            claim = await a.hold(delivery)
            await a.finish(delivery, claim)
            a.settle(delivery, claim)

        await a.ledger.close()

        assert [await b.claim(delivery) for delivery in deliveries] == [GHOST] * 5

    async def test_close_is_idempotent_and_every_later_call_is_refused(self, a: Member, delivery: UUID) -> None:
        claim = await a.hold(delivery)
        await asyncio.gather(a.ledger.close(), a.ledger.close())
        await a.ledger.close()

        with pytest.raises(LedgerUnavailable):
            await a.claim(delivery)
        with pytest.raises(LedgerUnavailable):
            await a.finish(delivery, claim)
        with pytest.raises(LedgerUnavailable):
            await a.release(delivery, claim)
        with pytest.raises(LedgerUnavailable):
            a.settle(delivery, claim)
        with pytest.raises(LedgerUnavailable):
            await a.ledger.prune(now=KEPT_UNTIL)

    async def test_a_close_answers_what_was_asked_before(self, a: Member) -> None:
        asked = [asyncio.create_task(a.claim(uuid4())) for _ in range(300)]
        await asyncio.sleep(0)

        await a.ledger.close()

        assert await asyncio.gather(*asked) == [Call(attempt=1)] * 300


class DurabilityLaws(LedgerHarness):
    """What a process was told is so, whatever becomes of it."""

    @pytest.mark.slow
    async def test_claims_of_a_living_process_hold_and_of_a_killed_one_are_taken_over(
        self, lab: Lab, b: Member
    ) -> None:
        process, said = await _start(lab, "claim")
        living = await b.claim(said[0])

        said += await _kill(process)
        await lab.store.let_deaths_be_noticed()
        answers = [await b.claim(delivery) for delivery in said]

        assert isinstance(living, Held)
        assert answers == [Call(attempt=2, took_over=1)] * len(said)

    @pytest.mark.slow
    async def test_every_end_acknowledged_before_a_sigkill_is_there(self, lab: Lab, b: Member) -> None:
        process, said = await _start(lab, "finish")

        said += await _kill(process)
        answers = [await b.claim(delivery) for delivery in said]

        for answer in answers:
            assert isinstance(answer, Resume)
            assert (answer.verdict, answer.outcome) == (RETRY, BUSY)

    async def test_rows_survive_a_restart(self, lab: Lab, a: Member, delivery: UUID) -> None:
        claim = await a.hold(delivery)
        await a.finish(delivery, claim)
        await a.ledger.close()

        restarted = await lab.member("a")

        assert await restarted.claim(delivery) == Resume(
            attempt=1, verdict=RETRY, outcome=BUSY, owner=claim.owner, token=claim.token
        )

    async def test_only_what_need_not_be_kept_is_pruned(self, lab: Lab, a: Member, b: Member) -> None:
        kept, forgotten, held = [[uuid4() for _ in range(40)] for _ in range(3)]
        for delivery in kept + forgotten:
            claim = await a.hold(delivery, prune_after=KEPT_UNTIL + timedelta(seconds=1 if delivery in kept else -1))
            await a.finish(delivery, claim)
            a.settle(delivery, claim)
        for delivery in held:
            await a.hold(delivery, prune_after=KEPT_UNTIL - timedelta(days=1))

        counts = [await b.ledger.prune(now=KEPT_UNTIL), await b.ledger.prune(now=KEPT_UNTIL)]
        known = [await a.claim(delivery) for delivery in kept]
        unknown = [await a.claim(delivery) for delivery in forgotten]
        alive = [await b.claim(delivery) for delivery in held]

        assert counts == [len(forgotten), 0]
        assert {type(answer) for answer in known} <= {type(GHOST), Resume}
        assert unknown == [Call(attempt=1)] * len(forgotten)
        assert {type(answer) for answer in alive} == {Held}

    async def test_a_claim_whose_lease_ended_is_pruned_in_its_time(self, lab: Lab, a: Member, delivery: UUID) -> None:
        await a.hold(delivery, prune_after=KEPT_UNTIL - timedelta(days=1))
        await lab.store.let_time_pass(LEASE_SECONDS + 1)

        assert await a.ledger.prune(now=KEPT_UNTIL) == 1

    async def test_a_row_is_kept_as_long_as_any_of_its_claims_asked(self, a: Member, delivery: UUID) -> None:
        first = await a.hold(delivery, prune_after=KEPT_UNTIL - timedelta(days=1))
        await a.finish(delivery, first)
        for attempt, more in ((2, timedelta(days=1)), (3, timedelta(days=-1))):
            following = a.ask(Source(attempt, 0), prune_after=KEPT_UNTIL + more)
            assert await a.ledger.claim(delivery, following) == Call(attempt=attempt)
            await a.finish(delivery, following, attempt=attempt)

        assert await a.ledger.prune(now=KEPT_UNTIL) == 0


async def _start(lab: Lab, what: str) -> tuple[Process, list[UUID]]:
    """A process that claims or finishes, and the first deliveries it was sure of."""
    process = await asyncio.create_subprocess_exec(*lab.store.process(what), stdout=PIPE, cwd=ROOT)
    assert process.stdout is not None
    return process, [UUID((await process.stdout.readline()).decode().strip()) for _ in range(50)]


async def _kill(process: Process) -> list[UUID]:
    """What else it was sure of before it died."""
    process.kill()
    assert process.stdout is not None
    rest = (await process.stdout.read()).decode().splitlines(keepends=True)
    await process.wait()
    return [UUID(line.strip()) for line in rest if line.endswith("\n")]
