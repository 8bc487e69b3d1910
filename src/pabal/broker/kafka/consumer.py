"""A member of a consumer group, as the event loop sees it: polls, commits, pauses.

* `member.py` the thread that is the member · `arrivals.py` what has come from it · `handover.py` records on their way
* `commits.py` commits under way
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence

from confluent_kafka import KafkaException

from pabal.broker.kafka.arrivals import Arrivals
from pabal.broker.kafka.client import KafkaSettings, cause, log_error, logger
from pabal.broker.kafka.commits import Commits
from pabal.broker.kafka.member import GroupMember
from pabal.broker.port import Assignment, Record, TopicPartition
from pabal.errors import Closed, LogUnavailable, NotAssigned

_COMMIT_SECONDS = 5.0
"""How long `commit` waits for the coordinator."""

_COMMIT_RETRY_SECONDS = 0.1

_SEEK_SECONDS = 5.0
"""How long `seek` waits for the member's thread."""

_CLOSE_SECONDS = 5.0
"""How long `close` waits. librdkafka waits for ever while a commit has no answer: the thread is left to that."""


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
        self._commits = Commits()
        self._arrivals = Arrivals(assignment, self._commits)
        self._closing: asyncio.Task[None] | None = None
        self._member = GroupMember(settings, self._arrivals, group=group, topics=topics, instance=instance)

    async def poll(self, *, limit: int, timeout_seconds: float) -> Sequence[Record]:
        """See `Consumer.poll`. The first poll joins the group."""
        self._check_open()
        self._member.seen_alive(polling=True)
        try:
            if not self._member.is_alive():
                self._member.start()
            # The loop turns at least once, so that a busy polling task starves no other.
            await (asyncio.sleep(0) if self._arrivals.are_due else self._arrivals.wait(timeout_seconds))
        finally:
            self._member.seen_alive(polling=False)
        self._check_open()
        self._arrivals.raise_untold()
        handover = self._arrivals.handover
        if handover.has_records():
            records = handover.take(limit)
            if self._member.waits_for_room:
                self._member.made_room()
            return records
        self._arrivals.raise_trouble()
        return []

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See `Consumer.commit`."""
        self._check_open()
        deadline = self._loop.time() + _COMMIT_SECONDS
        refused = offsets.keys() - self._member.owned
        rest = {partition: offset for partition, offset in offsets.items() if partition not in refused}
        while rest:
            rest, gone = await self._commits.once(rest, send=self._member.commit, deadline=deadline)
            refused |= gone
            if rest:
                await asyncio.sleep(_COMMIT_RETRY_SECONDS)
                self._check_open()
        _refuse(refused)

    async def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.pause`."""
        self._check_open()
        owned = set(partitions) & self._member.owned
        self._arrivals.handover.pause(owned)
        _refuse(set(partitions) - owned)

    async def resume(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.resume`."""
        self._check_open()
        owned = set(partitions) & self._member.owned
        self._arrivals.handover.resume(owned)
        self._arrivals.wake()
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
                self._arrivals.begin_anew(partition)
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

    async def _leave(self) -> None:
        self._member.stop()
        self._arrivals.wake()
        done, _ = await asyncio.wait((self._member.ended,), timeout=_CLOSE_SECONDS)
        if not done:
            logger.warning("leaving the group is not confirmed; its coordinator ends the membership in time")

    def _check_open(self) -> None:
        if self._closing is not None:
            raise Closed("this consumer was closed")


def _refuse(partitions: Collection[TopicPartition]) -> None:
    """Raise `NotAssigned` naming `partitions`, if there are any: what concerns the others was done before."""
    if partitions:
        names = ", ".join(f"{topic}[{number}]" for topic, number in sorted(partitions))
        raise NotAssigned(f"not (or no longer) a partition of this member: {names}")
