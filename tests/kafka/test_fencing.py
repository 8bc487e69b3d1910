"""A named (static) member and who takes its place: its own former self, or another process of its name."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from confluent_kafka import Consumer as RdConsumer
from servers.kafka import KafkaCluster, missing

from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.port import Consumer, TopicPartition
from pabal.errors import LogError, LogUnavailable, NotAssigned
from tests.conftest import skip_without_kafka
from tests.kafka.lab import Owner, make_topic, record, unique
from tests.waiting import eventually

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(150)]

SESSION_SECONDS = 3.0
"""Short, so that a freeze need not last."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A cluster of one broker, which coordinates every group."""
    if reason := missing():
        skip_without_kafka(reason)
    with KafkaCluster.start(tmp_path_factory.mktemp("kafka"), heap_mb=384) as started:
        yield started


@asynccontextmanager
async def connected(cluster: KafkaCluster) -> AsyncIterator[KafkaBroker]:
    # Requests without an answer are repeated after a second, so a freeze need not last ten.
    broker = await KafkaBroker.open(
        cluster.bootstrap,
        options={"socket.timeout.ms": "1000"},
        session_seconds=SESSION_SECONDS,
        deadline_seconds=30,
    )
    try:
        yield broker
    finally:
        await broker.close()


class Role:
    """Polls and commits all the time, as a role does, until its consumer says that it is over."""

    def __init__(self, broker: KafkaBroker, topic: str, *, group: str, name: str) -> None:
        self.owner = Owner()
        self.values: list[bytes | None] = []
        self.committed = 0
        self.refused = 0
        self.end: LogError | None = None
        self._consumer: Consumer = broker.consumer(group, [topic], self.owner, instance=name)
        self._polling = asyncio.ensure_future(self._poll())
        self._committing = asyncio.ensure_future(self._commit(TopicPartition(topic, 0)))

    async def _poll(self) -> None:
        try:
            while True:
                self.values += [each.value for each in await self._consumer.poll(limit=10, timeout_seconds=0.2)]
        except LogError as error:
            self.end = error

    async def _commit(self, partition: TopicPartition) -> None:
        while not self._polling.done():
            await asyncio.sleep(0.005)
            if partition not in self.owner.owned:
                continue
            try:
                await self._consumer.commit({partition: 1})
                self.committed += 1
            except (LogUnavailable, NotAssigned):
                self.refused += 1

    async def close(self) -> None:
        self._polling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._polling
        await self._committing


@asynccontextmanager
async def back_after_an_outage(cluster: KafkaCluster) -> AsyncIterator[tuple[Role, str, str]]:
    """A named role whose coordinator was frozen beyond its session and that has its partition again; topic, group."""
    async with connected(cluster) as broker:
        topic, group = await make_topic(broker), unique("group")
        await broker.producer().append([record(topic)])
        role = Role(broker, topic, group=group, name="one")
        await eventually(lambda: role.committed, within_seconds=20)
        cluster.pause(0)
        try:
            await eventually(lambda: role.owner.losses, within_seconds=20)
        finally:
            cluster.resume(0)
        await eventually(lambda: role.end or role.owner.owned, within_seconds=30)
        try:
            yield role, topic, group
        finally:
            await role.close()


async def take_the_name(cluster: KafkaCluster, topic: str, group: str, former: Role) -> None:
    """Join as another member id of the same name, which is what a coordinator sees of a former self, and vanish."""
    fenced_before, done = len(former.owner.losses), asyncio.Event()
    config = {
        "bootstrap.servers": cluster.bootstrap,
        "group.id": group,
        "group.instance.id": "one",
        "session.timeout.ms": int(1000 * SESSION_SECONDS),
        "partition.assignment.strategy": "cooperative-sticky",
        "enable.auto.commit": False,
    }
    usurper = RdConsumer(config)
    usurper.subscribe([topic], on_assign=lambda *_: done.set())
    try:
        deadline = asyncio.get_running_loop().time() + 20
        while not done.is_set() and len(former.owner.losses) == fenced_before:
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.to_thread(usurper.poll, 0.05)
        await eventually(lambda: len(former.owner.losses) > fenced_before, within_seconds=10)
    finally:
        await asyncio.to_thread(usurper.close)


async def test_a_member_fenced_after_its_coordinator_was_gone_beyond_its_session_goes_on(cluster: KafkaCluster) -> None:
    async with back_after_an_outage(cluster) as (role, topic, group):
        await take_the_name(cluster, topic, group, role)
        await eventually(lambda: role.end or role.owner.owned, within_seconds=20)
        before = role.committed
        await eventually(lambda: role.end or role.committed > before, within_seconds=20)

        assert role.end is None
        assert role.owner.revocations == []


async def test_a_member_fenced_again_within_a_minute_ends_so_that_two_of_a_name_do_not_alternate(
    cluster: KafkaCluster,
) -> None:
    async with back_after_an_outage(cluster) as (role, topic, group):
        await take_the_name(cluster, topic, group, role)
        await eventually(lambda: role.end or role.owner.owned, within_seconds=20)
        first_end = role.end
        await take_the_name(cluster, topic, group, role)
        await eventually(lambda: role.end, within_seconds=20)

        assert first_end is None
        assert isinstance(role.end, NotAssigned)


async def test_a_member_that_was_never_cut_off_ends_at_its_first_fencing(cluster: KafkaCluster) -> None:
    async with connected(cluster) as broker:
        topic, group = await make_topic(broker), unique("group")
        await broker.producer().append([record(topic)])
        role = Role(broker, topic, group=group, name="one")
        await eventually(lambda: role.committed, within_seconds=20)

        await take_the_name(cluster, topic, group, role)
        await eventually(lambda: role.end, within_seconds=20)
        await role.close()

        assert isinstance(role.end, NotAssigned)
