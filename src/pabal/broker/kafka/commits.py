"""Commits of one consumer that are under way: sent by the member's thread, answered by the group's coordinator."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as RdTopicPartition

from pabal.broker.kafka.client import cause, commit_error, logger
from pabal.broker.kafka.receiver import Sent
from pabal.broker.port import TopicPartition
from pabal.errors import LogUnavailable, NotAssigned

_IN_BETWEEN = frozenset({KafkaError.STALE_MEMBER_EPOCH, KafkaError.REBALANCE_IN_PROGRESS})
"""Answers to a commit in the middle of a rebalance: the partition may still be ours, ask again."""

Send = Callable[[Mapping[TopicPartition, int], Sent], None]
"""Hands a commit to the member's thread."""


class Commits:
    """The commits under way. For the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._under_way: list[_Commit] = []

    async def once(
        self, offsets: Mapping[TopicPartition, int], *, send: Send, deadline: float
    ) -> tuple[dict[TopicPartition, int], set[TopicPartition]]:
        """Send one commit; what is to be sent again, and which partitions the member does not own any more.

        Raises LogUnavailable when no answer comes before the deadline (on the loop's clock), and what `commit_error`
        makes of a refusal.
        """
        commit = _Commit(self._loop.create_future())
        self._under_way.append(commit)
        send(offsets, commit.sent)
        try:
            errors = await asyncio.wait_for(commit.answer, max(0.01, deadline - self._loop.time()))
        except TimeoutError:
            raise LogUnavailable("the group's coordinator did not answer the commit in time") from None
        except KafkaException as error:
            raise commit_error(cause(error)) from error
        finally:
            self._under_way.remove(commit)
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

    def answered(self, error: KafkaError | None, partitions: Sequence[RdTopicPartition]) -> None:
        """See `Receiver.committed`."""
        answer = {TopicPartition(each.topic, each.partition): each for each in partitions}
        offsets = {partition: each.offset for partition, each in answer.items()}
        errors = {partition: each.error or error for partition, each in answer.items()}
        # librdkafka answers in order but does not say which commit; one with the same content is as good.
        for commit in self._under_way:
            if commit.offsets == offsets and not commit.answer.done():
                commit.answer.set_result(errors)
                return
        if any(errors.values()):
            logger.warning(
                "a commit that nobody waits for failed: %s", {each: str(e) for each, e in errors.items() if e}
            )


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
