"""Calls from a member's thread into the event loop: one queue, in order, and one question that waits for its answer."""

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as RdTopicPartition

from pabal.broker.kafka.client import logger
from pabal.broker.kafka.receiver import Receiver
from pabal.broker.port import TopicPartition
from pabal.errors import LogError, LogUnavailable

_REVOKE_SECONDS = 2.0
"""How long the event loop may take to answer `revoked`; less than any session."""


class LoopCalls:
    """What a member's thread has the event loop do. Every method is for that thread, but `end`, which is for any.

    Calls run in the order in which they were made, so no record of a partition comes before its assignment or after
    its revocation.
    """

    def __init__(self, receiver: Receiver, *, group: str) -> None:
        self.group = group
        self.receiver = receiver
        self.is_over = False
        """Whether the thread should end: the consumer was closed, or the event loop was."""
        self._loop = asyncio.get_running_loop()

    def end(self) -> None:
        """Have the thread end."""
        self.is_over = True

    def call(self, function: Callable[..., Any], *arguments: Any) -> bool:
        """Have the event loop call this; False when the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop was closed without closing this consumer: no poll will come.
            self.is_over = True
            return False
        return True

    def tell_failure(self, error: LogError, *, for_good: bool = False) -> None:
        """Have `poll` raise an error about the whole member."""
        if isinstance(error, LogUnavailable):
            # `poll` waits through an outage; an admin client tells of it.
            logger.info("%s", error)
            return
        self.call(lambda: self.receiver.failed(error, for_good=for_good))

    def tell_committed(self, error: KafkaError | None, partitions: list[RdTopicPartition]) -> None:
        """The answer to a commit. librdkafka's `on_commit`."""
        self.call(self.receiver.committed, error, partitions)

    def ask_back(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Ask the loop for these partitions; the offsets to commit, none if it does not answer in time."""
        answer: concurrent.futures.Future[Mapping[TopicPartition, int]] = concurrent.futures.Future()

        def ask() -> None:
            if not answer.set_running_or_notify_cancel():
                self.receiver.lost(partitions)
                return
            try:
                answer.set_result(self.receiver.revoked(partitions))
            except Exception as error:
                answer.set_exception(error)

        if not self.call(ask):
            return {}
        try:
            # The second wait is for an answer that began within the deadline; `revoked` returns quickly.
            with contextlib.suppress(TimeoutError):
                return answer.result(_REVOKE_SECONDS)
            if answer.cancel():
                logger.warning("group %s: the event loop did not give partitions back in time", self.group)
                return {}
            return answer.result(_REVOKE_SECONDS)
        except Exception:
            logger.exception("group %s: giving partitions back failed; nothing is committed", self.group)
            return {}
