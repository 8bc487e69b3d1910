"""A member of a consumer group, as the event loop sees it: polls, commits, pauses."""

import asyncio
import copy
from collections import deque
from collections.abc import Collection, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as RdTopicPartition

from pabal.broker.kafka.client import KafkaSettings, cause, commit_error, log_error, logger
from pabal.broker.kafka.handover import Handover
from pabal.broker.kafka.member import GroupMember
from pabal.broker.port import Assignment, Record, TopicPartition
from pabal.errors import Closed, LogError, LogUnavailable, NotAssigned, OffsetOutOfRange

_COMMIT_SECONDS = 5.0
"""How long `commit` waits for the coordinator."""

_COMMIT_RETRY_SECONDS = 0.1

_SEEK_SECONDS = 5.0
"""How long `seek` waits for the member's thread."""

_CLOSE_SECONDS = 5.0
"""How long `close` waits. librdkafka waits for ever while a commit has no answer: the thread is left to that."""

_IN_BETWEEN = frozenset({KafkaError.STALE_MEMBER_EPOCH, KafkaError.REBALANCE_IN_PROGRESS})
"""Answers to a commit in the middle of a rebalance: the partition may still be ours, ask again."""


class KafkaConsumer:
    """See `pabal.broker.port.Consumer`. The thread behind it is `GroupMember`."""

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        group: str,
        topics: Sequence[str],
        assignment: Assignment,
        instance: str | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._assignment = assignment
        self.handover = Handover()
        self._waiter: asyncio.Future[None] | None = None
        self._news: deque[LogError] = deque()
        self._over: LogError | None = None
        self._standing: dict[TopicPartition, OffsetOutOfRange] = {}
        self._untold: deque[TopicPartition] = deque()
        self._commits: list[_Commit] = []
        self._closing: asyncio.Task[None] | None = None
        self._member = GroupMember(settings, self, group=group, topics=topics, instance=instance)

    async def poll(self, *, limit: int, timeout_seconds: float) -> Sequence[Record]:
        """See `Consumer.poll`. The first poll joins the group."""
        self._check_open()
        self._member.seen_alive(polling=True)
        try:
            if not self._member.is_alive():
                self._member.start()
            # The loop turns at least once, so that a busy polling task starves nobody.
            is_due = self.handover.has_records() or self._news or self._untold
            await (asyncio.sleep(0) if is_due else self._wait(timeout_seconds))
        finally:
            self._member.seen_alive(polling=False)
        self._check_open()
        if self._untold:
            raise self._standing[self._untold.popleft()]
        if self.handover.has_records():
            records = self.handover.take(limit)
            if self._member.waits_for_room:
                self._member.made_room()
            return records
        if self._news:
            raise self._news.popleft()
        if self._over is not None:
            raise self._over
        if self._standing:
            # In turn: the one that is raised goes to the end.
            partition = next(iter(self._standing))
            error = self._standing[partition] = self._standing.pop(partition)
            # A new one each time: raised again, an exception would drag its former tracebacks along.
            raise copy.copy(error)
        return []

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See `Consumer.commit`."""
        self._check_open()
        deadline = self._loop.time() + _COMMIT_SECONDS
        refused = offsets.keys() - self._member.owned
        rest = {partition: offset for partition, offset in offsets.items() if partition not in refused}
        while rest:
            rest, gone = await self._commit_once(rest, deadline=deadline)
            refused |= gone
            if rest:
                await asyncio.sleep(_COMMIT_RETRY_SECONDS)
                self._check_open()
        _refuse(refused)

    async def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.pause`."""
        self._check_open()
        owned = set(partitions) & self._member.owned
        self.handover.pause(owned)
        _refuse(set(partitions) - owned)

    async def resume(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.resume`."""
        self._check_open()
        owned = set(partitions) & self._member.owned
        self.handover.resume(owned)
        self._wake()
        _refuse(set(partitions) - owned)

    async def seek(self, partition: TopicPartition, *, offset: int) -> None:
        """See `Consumer.seek`."""
        self._check_open()
        if partition not in self._member.owned:
            _refuse({partition})
        sought: asyncio.Future[KafkaException | None] = self._loop.create_future()

        def done(error: KafkaException | None, *, is_owned: bool) -> None:
            # In order with what the thread hands over: all that came before is from the former position.
            if is_owned and error is None:
                self.handover.clear(partition)
                self._goes_on(partition)
            if not sought.done():
                sought.set_result(error)

        self._member.seek(partition, offset, done)
        try:
            error = await asyncio.wait_for(sought, _SEEK_SECONDS)
        except TimeoutError:
            raise LogUnavailable(f"{partition.topic}[{partition.partition}] was not moved in time") from None
        if error is not None:
            raise log_error(cause(error), doing=f"cannot move {partition.topic}[{partition.partition}]") from error
        if partition not in self._member.owned:
            _refuse({partition})

    def has_died(self) -> bool:
        """Whether the thread behind it has ended unasked."""
        return self._closing is None and self._member.ident is not None and not self._member.is_alive()

    async def close(self) -> None:
        """See `Consumer.close`."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._leave())
        await asyncio.shield(self._closing)

    # -- what the member's thread tells, in the loop

    def received(self, batch: list[Record]) -> None:
        """See `Listener.received`."""
        self.handover.put(batch)
        self._wake()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """See `Listener.assigned`."""
        self._assignment.assigned(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See `Listener.revoked`."""
        self._forget(partitions)
        offsets = self._assignment.revoked(partitions)
        return {partition: offset for partition, offset in offsets.items() if partition in set(partitions)}

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """See `Listener.lost`."""
        self._forget(partitions)
        self._assignment.lost(partitions)

    def committed(self, error: KafkaError | None, partitions: Sequence[RdTopicPartition]) -> None:
        """See `Listener.committed`."""
        answer = {TopicPartition(each.topic, each.partition): each for each in partitions}
        offsets = {partition: each.offset for partition, each in answer.items()}
        errors = {partition: each.error or error for partition, each in answer.items()}
        # librdkafka answers in order but does not say which commit; one with the same content is as good.
        for commit in self._commits:
            if commit.offsets == offsets and not commit.answer.done():
                commit.answer.set_result(errors)
                return
        if any(errors.values()):
            logger.warning(
                "a commit that nobody waits for failed: %s", {each: str(e) for each, e in errors.items() if e}
            )

    def failed(self, error: LogError, *, for_good: bool) -> None:
        """See `Listener.failed`."""
        if for_good:
            self._over = error
        self._news.append(error)
        self._wake()

    def stands_still(self, partition: TopicPartition, error: OffsetOutOfRange) -> None:
        """See `Listener.stands_still`."""
        if partition not in self._standing:
            self._untold.append(partition)
        self._standing[partition] = error
        self._wake()

    # -- private

    async def _leave(self) -> None:
        self._member.stop()
        self._wake()
        done, _ = await asyncio.wait((self._member.ended,), timeout=_CLOSE_SECONDS)
        if not done:
            logger.warning("leaving the group is not confirmed; its coordinator ends the membership in time")

    async def _wait(self, timeout_seconds: float) -> None:
        """Return when there is something for `poll`, or time is up."""
        waiter = self._waiter = self._loop.create_future()
        timer = self._loop.call_later(timeout_seconds, _resolve, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None:
            _resolve(self._waiter)

    async def _commit_once(
        self, offsets: Mapping[TopicPartition, int], *, deadline: float
    ) -> tuple[dict[TopicPartition, int], set[TopicPartition]]:
        """Send one commit; what is to be sent again, and what is not ours any more."""
        commit = _Commit(self._loop.create_future())
        self._commits.append(commit)
        self._member.commit(offsets, commit.sent)
        try:
            errors = await asyncio.wait_for(commit.answer, max(0.01, deadline - self._loop.time()))
        except TimeoutError:
            raise LogUnavailable("the group's coordinator did not answer the commit in time") from None
        except KafkaException as error:
            raise commit_error(cause(error)) from error
        finally:
            self._commits.remove(commit)
        sent = commit.offsets
        gone = set(offsets.keys() - sent.keys())
        again: dict[TopicPartition, int] = {}
        for partition, answer in errors.items():
            if answer is None:
                continue
            if answer.code() in _IN_BETWEEN and self._loop.time() < deadline:
                again[partition] = sent[partition]
                continue
            failure = commit_error(answer)
            if not isinstance(failure, NotAssigned):
                raise failure
            gone.add(partition)
        return again, gone

    def _forget(self, partitions: Collection[TopicPartition]) -> None:
        self.handover.drop(partitions)
        for partition in partitions:
            self._goes_on(partition)

    def _goes_on(self, partition: TopicPartition) -> None:
        if self._standing.pop(partition, None) is not None and partition in self._untold:
            self._untold.remove(partition)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise Closed("this consumer was closed")


class _Commit:
    """One commit under way: what of it was sent, and the answer to that."""

    def __init__(self, answer: asyncio.Future[Mapping[TopicPartition, KafkaError | None]]) -> None:
        self.offsets: Mapping[TopicPartition, int] = {}
        self.answer = answer

    def sent(self, offsets: Mapping[TopicPartition, int], error: KafkaException | None) -> None:
        """See `Sent`."""
        self.offsets = offsets
        if self.answer.done():
            return
        if error is not None:
            self.answer.set_exception(error)
        elif not offsets:
            self.answer.set_result({})


def _refuse(partitions: Collection[TopicPartition]) -> None:
    """Raise `NotAssigned` naming `partitions`, if there are any: what concerns the others was done before."""
    if partitions:
        names = ", ".join(f"{topic}[{number}]" for topic, number in sorted(partitions))
        raise NotAssigned(f"not (or no longer) a partition of this member: {names}")


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
