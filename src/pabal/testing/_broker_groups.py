"""Laws about consumer groups: partitions shared, progress kept, owners fenced."""

import asyncio
import time

import pytest

from pabal.broker.port import TopicPartition
from pabal.errors import NotAssigned, OffsetOutOfRange, UnknownTopic
from pabal.testing._broker_lab import BrokerHarness, Lab, Member


class GroupLaws(BrokerHarness):
    """Polling, committing, sharing."""

    async def test_a_member_gets_what_was_there_and_what_comes(self, lab: Lab) -> None:
        topic = await lab.topic()
        await lab.append(topic, "a", "b")
        member = lab.member(lab.name(), topic)

        before = await member.take(2)
        await lab.append(topic, "c")

        assert before + await member.take(1) == ["a", "b", "c"]

    async def test_a_waiting_poll_returns_as_soon_as_there_is_a_record(self, lab: Lab) -> None:
        topic = await lab.topic()
        member = lab.member(lab.name(), topic, broker=await lab.connect())
        await member.join()

        poll = asyncio.ensure_future(member.poll(timeout_seconds=10 * self.patience_seconds))
        await asyncio.sleep(0)
        await lab.append(topic, "a")
        await asyncio.wait_for(poll, self.patience_seconds)

        assert member.values == ["a"]

    async def test_poll_is_empty_after_its_timeout_and_keeps_to_its_limit(self, lab: Lab) -> None:
        topic = await lab.topic()
        member = lab.member(lab.name(), topic)
        await member.join()

        empty = await member.poll(timeout_seconds=0.01)
        await lab.append(topic, *map(str, range(10)))
        sizes = []
        while len(member.records) < 10:
            sizes.append(len(await member.poll(limit=3, timeout_seconds=self.patience_seconds)))

        assert list(empty) == []
        assert 0 < min(sizes) <= max(sizes) <= 3

    async def test_groups_are_independent(self, lab: Lab) -> None:
        topic = await lab.topic()
        await lab.append(topic, "a", "b")
        one, other = lab.member(lab.name(), topic), lab.member(lab.name(), topic)

        await one.take(2)
        await one.commit()

        assert await other.take(2) == ["a", "b"]
        assert await lab.committed(other.group, topic) == {}

    async def test_committed_records_do_not_come_again_and_others_do(self, lab: Lab) -> None:
        topic, group = await lab.topic(), lab.name()
        offsets = await lab.append(topic, "a", "b", "c")
        first = lab.member(group, topic)
        first.commits_when_revoked = False
        await first.take(3)

        await first.consumer.commit({TopicPartition(topic, 0): offsets[1]})
        await first.close()

        assert await lab.member(group, topic).take(2) == ["b", "c"]

    async def test_commit_of_a_partition_of_another_is_refused_and_the_rest_is_committed(self, lab: Lab) -> None:
        topic, unsubscribed, group = await lab.topic(), await lab.topic(), lab.name()
        offsets = await lab.append(topic, "a", "b")
        member = lab.member(group, topic)
        await member.take(2)

        with pytest.raises(NotAssigned):
            await member.consumer.commit({TopicPartition(unsubscribed, 0): 0, TopicPartition(topic, 0): offsets[1] + 1})

        assert await lab.committed(group, unsubscribed) == {}
        assert await lab.committed(group, topic) == {0: offsets[1] + 1}

    async def test_a_subscription_to_a_missing_topic_raises(self, lab: Lab) -> None:
        missing = lab.name()
        member = lab.member(lab.name(), missing)

        with pytest.raises(UnknownTopic, match=missing):
            await member.take(1)

    async def test_pause_stops_a_partition_and_resume_continues_it(self, lab: Lab) -> None:
        topic = await lab.topic(partitions=2)
        member = lab.member(lab.name(), topic)
        await lab.append(topic, "p0", partition=0)
        await lab.append(topic, "q0", partition=1)
        await member.take(2)
        paused = TopicPartition(topic, 0)

        await member.consumer.pause([paused])
        await lab.append(topic, "p1", "p2", partition=0)
        await lab.append(topic, "q1", partition=1)
        while_paused = await member.take(1)
        await member.consumer.resume([paused])

        assert while_paused == ["q1"]
        assert await member.take(2) == ["p1", "p2"]

    async def test_records_fetched_before_a_pause_come_once_after_it(self, lab: Lab) -> None:
        topic = await lab.topic()
        values = [str(number) for number in range(20)]
        await lab.append(topic, *values)
        member = lab.member(lab.name(), topic)
        partition = TopicPartition(topic, 0)
        while not member.records:
            await member.poll(limit=1, timeout_seconds=self.patience_seconds)

        for _ in range(3):
            await member.consumer.pause([partition])
            await member.consumer.resume([partition])
            await member.consumer.resume([partition])
            await member.poll(limit=1, timeout_seconds=self.patience_seconds)
        await lab.append(topic, "last")
        await lab.poll_until(lambda: "last" in member.values, member)

        assert member.values == [*values, "last"]

    async def test_a_partition_kept_through_a_rebalance_stays_paused_and_one_that_comes_back_is_not(
        self, lab: Lab
    ) -> None:
        topic, group = await lab.topic(partitions=2), lab.name()
        partitions = {TopicPartition(topic, 0), TopicPartition(topic, 1)}
        member = lab.member(group, topic)
        await lab.poll_until(lambda: member.owned == partitions, member)

        await member.consumer.pause(partitions)
        other = lab.member(group, topic, broker=await lab.connect())
        await lab.poll_until(lambda: len(member.owned) == len(other.owned) == 1, member, other)
        [kept] = member.owned
        await other.close()
        await lab.poll_until(lambda: member.owned == partitions, member)
        [came_back] = partitions - {kept}
        await lab.append(topic, "kept", partition=kept.partition)
        await lab.append(topic, "came back", partition=came_back.partition)
        while_paused = await member.take(1)
        await member.consumer.resume([kept])

        assert member.revoked_partitions == [came_back]
        assert while_paused == ["came back"]
        assert await member.take(1) == ["kept"]

    async def test_pause_and_resume_refuse_partitions_of_others_and_apply_to_the_owned_all_the_same(
        self, lab: Lab
    ) -> None:
        topic, unsubscribed = await lab.topic(partitions=2), await lab.topic()
        member = lab.member(lab.name(), topic)
        await lab.poll_until(lambda: len(member.owned) == 2, member)
        mine, others = TopicPartition(topic, 0), TopicPartition(unsubscribed, 0)

        with pytest.raises(NotAssigned, match=unsubscribed) as of_pause:
            await member.consumer.pause([others, mine])
        await lab.append(topic, "p", partition=0)
        await lab.append(topic, "q", partition=1)
        while_paused = await member.take(1)
        with pytest.raises(NotAssigned, match=unsubscribed) as of_resume:
            await member.consumer.resume([others, mine])

        assert while_paused == ["q"]
        assert await member.take(1) == ["p"]
        assert topic not in str(of_pause.value) + str(of_resume.value)

    async def test_partitions_are_shared_and_none_is_owned_twice(self, lab: Lab) -> None:
        topic, group = await lab.topic(partitions=6), lab.name()
        members = [lab.member(group, topic, broker=await lab.connect()) for _ in range(3)]

        for count in (1, 2, 3):
            await _poll_until_even(members[:count], partitions=6)
        await members[0].close()
        await _poll_until_even(members[1:], partitions=6)

        assert lab.owned_twice == []

    async def test_more_members_than_partitions_leave_some_without(self, lab: Lab) -> None:
        topic, group = await lab.topic(), lab.name()
        first, second = lab.member(group, topic), lab.member(group, topic, broker=await lab.connect())
        await first.join()

        assert list(await second.poll(timeout_seconds=0.05)) == []
        await first.close()
        await second.join()

        assert second.owned == {TopicPartition(topic, 0)}

    async def test_members_that_come_and_go_lose_no_record(self, lab: Lab) -> None:
        topic, group = await lab.topic(partitions=4), lab.name()
        members = [lab.member(group, topic, broker=await lab.connect()) for _ in range(3)]
        sent: set[str] = set()

        async def append(turn: int) -> None:
            for partition in range(4):
                values = [f"{turn}:{partition}:{number}" for number in range(5)]
                await lab.append(topic, *values, partition=partition)
                sent.update(values)

        for count in (1, 2, 3):
            await append(count)
            await _poll_until_even(members[:count], partitions=4)
        leaver = members.pop(0)
        await leaver.close()
        await append(4)
        await _poll_until_even(members, partitions=4)

        everyone = [leaver, *members]
        await lab.poll_until(lambda: sent <= {value for each in everyone for value in each.values}, *members)
        assert lab.owned_twice == []

    async def test_the_offsets_returned_on_revocation_are_committed_before_the_next_owner_reads(self, lab: Lab) -> None:
        topic, group = await lab.topic(), lab.name()
        offsets = await lab.append(topic, "a", "b")
        first = lab.member(group, topic)
        second = lab.member(group, topic, broker=await lab.connect())
        await first.take(2)

        await first.close()
        committed = await lab.committed(group, topic)
        await lab.append(topic, "c")

        assert first.revoked_partitions == [TopicPartition(topic, 0)]
        assert committed == {0: offsets[-1] + 1}
        assert await second.take(1) == ["c"]

    async def test_a_member_that_stops_polling_loses_its_partitions_and_cannot_commit(self, lab: Lab) -> None:
        topic, group = await lab.topic(), lab.name()
        [offset] = await lab.append(topic, "a")
        silent = lab.member(group, topic)
        await silent.take(1)
        successor = lab.member(group, topic, broker=await lab.connect())

        await successor.take(1)
        with pytest.raises(NotAssigned):
            await silent.consumer.commit({TopicPartition(topic, 0): offset + 1})
        await successor.commit()
        await lab.append(topic, "b")
        await lab.poll_until(lambda: bool(silent.lost_partitions), silent, successor)

        assert silent.lost_partitions == [TopicPartition(topic, 0)]
        assert silent.revoked_partitions == []
        assert silent.values == ["a"]

    async def test_a_static_member_that_starts_again_takes_over_at_once_and_fences_the_former(self, lab: Lab) -> None:
        if not self.fences_duplicate_instance:
            pytest.skip("this log turns a second member of one instance away")
        topic, group = await lab.topic(partitions=2), lab.name()
        former = lab.member(group, topic, instance="one")
        await lab.poll_until(lambda: len(former.owned) == 2, former)
        neighbour = lab.member(group, topic, instance="two", broker=await lab.connect())
        await _poll_until_even([former, neighbour], partitions=2)
        [held] = former.owned
        [offset] = await lab.append(topic, "a", partition=held.partition)
        await former.take(1)
        neighbour.revoked_partitions.clear()

        restarted = lab.member(group, topic, instance="one", broker=await lab.connect())
        await lab.poll_until(lambda: restarted.owned == {held}, restarted, neighbour)
        with pytest.raises(NotAssigned):
            await former.consumer.commit({held: offset + 1})

        await lab.poll_until(lambda: restarted.values == ["a"], restarted, neighbour)
        assert neighbour.revoked_partitions == neighbour.lost_partitions == []

    async def test_cancelled_polls_lose_nothing(self, lab: Lab) -> None:
        topic = await lab.topic(partitions=2)
        member = lab.member(lab.name(), topic)
        producer_done = asyncio.Event()

        async def append() -> None:
            for number in range(60):
                await lab.append(topic, str(number), partition=number % 2)
            producer_done.set()

        appending = asyncio.ensure_future(append())
        await member.join()
        while not producer_done.is_set():
            poll = asyncio.ensure_future(member.consumer.poll(limit=3, timeout_seconds=60))
            for _ in range(len(member.records) % 7):
                await asyncio.sleep(0)
            if not poll.done():
                await asyncio.wait([poll], timeout=0.002)
            poll.cancel()
            [result] = await asyncio.gather(poll, return_exceptions=True)
            if not isinstance(result, BaseException):
                member.note(result)
        await appending
        await lab.poll_until(lambda: len(member.records) >= 60, member)

        assert sorted(map(int, member.values)) == list(range(60))


class StandstillLaws(BrokerHarness):
    """A position that its partition does not keep: said, without harm to the others, and over by `seek`."""

    async def test_a_partition_that_cannot_be_read_on_does_not_starve_the_others(self, lab: Lab) -> None:
        topic, group, _ = await self._damaged(lab)
        member = lab.member(group, topic)
        errors = [await _error_of(member)]
        for turn in range(5):
            for partition in (1, 2):
                await lab.append(topic, f"{partition}:{turn}", partition=partition)
            while len(member.records) < 2 * (turn + 1):
                try:
                    await member.poll(timeout_seconds=self.patience_seconds)
                except OffsetOutOfRange as error:
                    errors.append(error)

        assert sorted(member.values) == [f"{partition}:{turn}" for partition in (1, 2) for turn in range(5)]
        assert {(error.topic, error.partition) for error in errors} == {(topic, 0)}

    async def test_every_poll_that_would_be_empty_says_what_stands_still_and_where(self, lab: Lab) -> None:
        topic, group, offsets = await self._damaged(lab)
        member = lab.member(group, topic)

        first, second = await _error_of(member), await _error_of(member)

        for error in (first, second):
            assert (error.topic, error.partition) == (topic, 0)
            assert (error.offset, error.low, error.high) == (offsets[1], offsets[-1], offsets[-1] + 1)
        assert member.values == []

    async def test_all_that_stands_still_is_said_in_turn(self, lab: Lab) -> None:
        topic, group, _ = await self._damaged(lab, partitions=2)
        member = lab.member(group, topic)

        said: set[int | None] = set()
        while len(said) < 2:  # The one may be found out later than the other.
            said.add((await _error_of(member)).partition)
        again = [(await _error_of(member)).partition for _ in range(4)]

        assert {again[0], again[1]} == {again[2], again[3]} == {0, 1}

    async def test_it_is_said_also_when_there_are_always_other_records(self, lab: Lab) -> None:
        topic, group, _ = await self._damaged(lab)
        member = lab.member(group, topic)
        said: list[OffsetOutOfRange] = []

        async def look() -> bool:
            await lab.append(topic, "more", partition=1)
            try:
                await member.poll(limit=1, timeout_seconds=self.patience_seconds)
            except OffsetOutOfRange as error:
                said.append(error)
            return bool(said)

        deadline = time.monotonic() + self.patience_seconds
        while not await look():
            assert time.monotonic() < deadline, "not said"

        assert said[0].partition == 0

    async def test_seek_goes_on_with_what_is_kept(self, lab: Lab) -> None:
        topic, group, offsets = await self._damaged(lab)
        member = lab.member(group, topic)
        error = await _error_of(member)
        assert error.low == offsets[-1]

        await member.consumer.seek(TopicPartition(topic, 0), offset=error.low)
        kept = await member.take(1)
        await lab.append(topic, "new", partition=0)

        assert kept == ["kept"]
        assert await member.take(1) == ["new"]
        assert list(await member.poll(timeout_seconds=0.3)) == []

    async def test_a_committed_offset_above_the_end_is_an_error_too_and_seek_ends_it(self, lab: Lab) -> None:
        topic, group = await lab.topic(partitions=2), lab.name()
        offsets = await lab.append(topic, "a", "b", partition=0)
        above = offsets[-1] + 1000
        await lab.reset_offsets(group, {TopicPartition(topic, 0): above})
        await lab.append(topic, "other", partition=1)
        member = lab.member(group, topic)
        error = await _error_of(member)
        await lab.poll_until(lambda: member.values == ["other"], member, tolerating=OffsetOutOfRange)

        assert (error.partition, error.offset, error.low, error.high) == (0, above, offsets[0], offsets[-1] + 1)
        await member.consumer.seek(TopicPartition(topic, 0), offset=offsets[0])
        assert await member.take(2) == ["a", "b"]

    async def test_seek_drops_what_was_fetched_and_may_go_back(self, lab: Lab) -> None:
        topic = await lab.topic()
        values = [str(number) for number in range(30)]
        offsets = await lab.append(topic, *values)
        member = lab.member(lab.name(), topic)
        while len(member.records) < 10:
            await member.poll(limit=1, timeout_seconds=self.patience_seconds)
        partition = TopicPartition(topic, 0)

        await member.consumer.seek(partition, offset=offsets[25])
        forward = await member.take(5)
        await member.consumer.seek(partition, offset=offsets[0])

        assert forward == values[25:]
        assert await member.take(30) == values

    async def test_seek_leaves_a_pause_as_it_is(self, lab: Lab) -> None:
        topic = await lab.topic(partitions=2)
        offsets = await lab.append(topic, "a", "b", "c", partition=0)
        member = lab.member(lab.name(), topic)
        await member.take(3)
        partition = TopicPartition(topic, 0)

        await member.consumer.pause([partition])
        await member.consumer.seek(partition, offset=offsets[1])
        await lab.append(topic, "other", partition=1)
        while_paused = await member.take(1)
        await member.consumer.resume([partition])

        assert while_paused == ["other"]
        assert await member.take(2) == ["b", "c"]

    async def test_seek_of_a_partition_of_another_is_refused(self, lab: Lab) -> None:
        topic, unsubscribed = await lab.topic(), await lab.topic()
        member = lab.member(lab.name(), topic)
        await member.join()

        with pytest.raises(NotAssigned, match=unsubscribed):
            await member.consumer.seek(TopicPartition(unsubscribed, 0), offset=0)

    async def _damaged(self, lab: Lab, *, partitions: int = 1) -> tuple[str, str, list[int]]:
        """A topic of three partitions, and a group with unread records that were deleted in the first `partitions`;
        the offsets in partition 0, of which the last one is kept."""
        topic, group = await lab.topic(partitions=3, retention_seconds=3600), lab.name()
        for number in range(partitions):
            offsets = await lab.append(topic, "read", "deleted", "deleted", partition=number)
            await lab.reset_offsets(group, {TopicPartition(topic, number): offsets[1]})
        await self.expire(lab.broker, topic)
        for number in range(partitions):
            kept = await lab.append(topic, "kept", partition=number)
        return topic, group, offsets + kept


async def _error_of(member: Member) -> OffsetOutOfRange:
    """What the next poll that is neither fruitful nor too early says."""
    deadline = time.monotonic() + member.lab.harness.patience_seconds
    while time.monotonic() < deadline:
        try:
            await member.poll(timeout_seconds=0.1)
        except OffsetOutOfRange as error:
            return error
    pytest.fail(f"no error: {member}")


async def _poll_until_even(members: list[Member], *, partitions: int) -> None:
    """Let them poll until every partition has one owner and the shares differ by at most one."""

    def is_even() -> bool:
        shares = [len(member.owned) for member in members]
        return sum(shares) == partitions and max(shares) - min(shares) <= 1

    await members[0].lab.poll_until(is_even, *members)
    assert len(set().union(*(member.owned for member in members))) == partitions
