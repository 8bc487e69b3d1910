"""The log on Apache Kafka, through librdkafka. `docs/kafka.md` says how to run on it.

Inside: `client.py` (settings, errors, records), `producer.py`, `consumer.py` with its thread in
`member.py` (it tells a `listener.py`; `place.py` judges a fencing) and the buffer between them in
`handover.py`, `reader.py`, `admin.py`. Only these modules know `confluent_kafka`, and only this one is
for others to import.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol, Self, TypeVar
from weakref import WeakSet

from pabal.broker.kafka.admin import KafkaAdmin
from pabal.broker.kafka.client import GroupProtocol, KafkaSettings, check_options
from pabal.broker.kafka.consumer import KafkaConsumer
from pabal.broker.kafka.producer import KafkaProducer, SharedProducer
from pabal.broker.kafka.reader import KafkaReader
from pabal.broker.port import Assignment
from pabal.errors import Closed

__all__ = ["KafkaBroker"]


class _Closable(Protocol):
    async def close(self) -> None: ...


Made = TypeVar("Made", bound=_Closable)


class KafkaBroker:
    """A Kafka cluster as the log: see `pabal.broker.port.Broker`. Make it with `open`.

    `bootstrap` lists brokers to begin with, `HOST:PORT,HOST:PORT`. `options` are librdkafka properties, for
    encryption and authentication above all; `producer.`, `consumer.` or `admin.` in front of a name gives it to
    these clients only. What the guarantees rest on cannot be set.

    `group_protocol`: "classic", the default, works with every broker, keeps `session_seconds` in our hands and
    lets a restarted static member take its place at once. "consumer" (KIP-848, brokers from 4.0) rebalances
    without stopping the others, but takes the session time from the broker (45 s unless it is told otherwise),
    so a crashed worker's partitions wait that long.

    `session_seconds`: a member that neither polls nor lives for so long loses its partitions. Brokers refuse
    less than 6 (`group.min.session.timeout.ms`).
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        options: Mapping[str, str] | None = None,
        group_protocol: GroupProtocol = "classic",
        session_seconds: float = 6.0,
        client_id: str = "pabal",
    ) -> None:
        check_options(options or {})
        self._settings = KafkaSettings(
            bootstrap=bootstrap,
            options=options or {},
            group_protocol=group_protocol,
            session_seconds=session_seconds,
            client_id=client_id,
        )
        self._producers: dict[float, SharedProducer] = {}
        # Weakly: a client without a reference needs no closing.
        self._made: WeakSet[_Closable] = WeakSet()
        self._closed = False

    @classmethod
    async def open(
        cls,
        bootstrap: str,
        *,
        options: Mapping[str, str] | None = None,
        group_protocol: GroupProtocol = "classic",
        session_seconds: float = 6.0,
        client_id: str = "pabal",
        deadline_seconds: float = 5.0,
    ) -> Self:
        """A broker whose cluster answered.

        Raises:
            ConfigError: an option is unknown, has no such value, or is not to be set.
            LogUnavailable: no answer within `deadline_seconds`.
        """
        broker = cls(
            bootstrap,
            options=options,
            group_protocol=group_protocol,
            session_seconds=session_seconds,
            client_id=client_id,
        )
        admin = KafkaAdmin(broker._settings)
        await admin.check(timeout_seconds=deadline_seconds)
        await admin.close()
        return broker

    def producer(self, *, deadline_seconds: float = 5.0) -> KafkaProducer:
        """See `Broker.producer`. Producers of one deadline share connections and batches."""
        self._check_open()
        shared = self._producers.get(deadline_seconds)
        if shared is None:
            shared = SharedProducer(self._settings, deadline_seconds=deadline_seconds)
            self._producers[deadline_seconds] = shared
        return self._keep(KafkaProducer(shared))

    def consumer(
        self, group: str, topics: Sequence[str], assignment: Assignment, *, instance: str | None = None
    ) -> KafkaConsumer:
        """See `Broker.consumer`."""
        self._check_open()
        return self._keep(
            KafkaConsumer(self._settings, group=group, topics=topics, assignment=assignment, instance=instance)
        )

    def reader(self) -> KafkaReader:
        """See `Broker.reader`."""
        self._check_open()
        return self._keep(KafkaReader(self._settings))

    def admin(self) -> KafkaAdmin:
        """See `Broker.admin`."""
        self._check_open()
        return self._keep(KafkaAdmin(self._settings))

    def ailments(self) -> Sequence[str]:
        """See `Broker.ailments`."""
        if self._closed:
            return []
        found = (
            [] if all(each.is_alive() for each in self._producers.values()) else ["a Kafka producer's thread has died"]
        )
        if any(isinstance(each, KafkaConsumer) and each.has_died() for each in self._made):
            found.append("the thread of a member of a consumer group has died")
        return found

    async def close(self) -> None:
        """See `Broker.close`."""
        self._closed = True
        await asyncio.gather(*(each.close() for each in list(self._made)))
        await asyncio.gather(*(each.close() for each in self._producers.values()))

    def _keep(self, made: Made) -> Made:
        self._made.add(made)
        return made

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this broker was closed")
