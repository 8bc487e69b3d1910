"""Pulling the plug: brokers that freeze, die and come back."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
from servers.kafka import KAFKA_VERSION, KafkaCluster, missing

from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.port import Consumer, TopicPartition, TopicSpec
from pabal.errors import LogUnavailable
from tests.conftest import skip_without_kafka
from tests.kafka.lab import Owner, record, unique
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(150)]

TOPIC = "orders"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A cluster of one broker: when it is gone, all are."""
    yield from start(tmp_path_factory, brokers=1)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    """A cluster that can spare one."""
    yield from start(tmp_path_factory, brokers=3)


def start(tmp_path_factory: pytest.TempPathFactory, *, brokers: int) -> Iterator[KafkaCluster]:
    if reason := missing():
        skip_without_kafka(reason)
    with KafkaCluster.start(tmp_path_factory.mktemp("kafka"), brokers=brokers, heap_mb=384) as cluster:
        yield cluster


@asynccontextmanager
async def connected(cluster: KafkaCluster) -> AsyncIterator[KafkaBroker]:
    broker = await KafkaBroker.open(cluster.bootstrap, session_seconds=2.0, deadline_seconds=30)
    await broker.admin().create_topic(TopicSpec(name=TOPIC, partitions=3))
    yield broker
    await broker.close()


class Traffic:
    """Appends and reads all the time, through whatever happens."""

    def __init__(self, broker: KafkaBroker, *, deadline_seconds: float) -> None:
        self.appended: set[str] = set()
        self.read: set[str] = set()
        self.outages = 0
        self.longest_seconds = 0.0
        self._producer = broker.producer(deadline_seconds=deadline_seconds)
        self._consumer: Consumer = broker.consumer(unique("group"), [TOPIC], Owner())
        self._run = unique("run")
        self._ending = False
        self._appending = asyncio.ensure_future(self._append())
        self._polling = asyncio.ensure_future(self._poll())

    async def _append(self) -> None:
        loop, number = asyncio.get_running_loop(), 0
        while not self._ending:
            number += 1
            value, began = f"{self._run}-{number}", loop.time()
            try:
                await self._producer.append([record(TOPIC, value, key=str(number).encode())])
                self.appended.add(value)
            except LogUnavailable:
                self.outages += 1
            self.longest_seconds = max(self.longest_seconds, loop.time() - began)
            await asyncio.sleep(0.005)

    async def _poll(self) -> None:
        while not (self._appending.done() and self.appended <= self.read):
            for each in await self._consumer.poll(limit=100, timeout_seconds=0.2):
                assert each.value is not None
                self.read.add(each.value.decode())

    async def flows(self) -> None:
        """Return once something was appended and read that was not there before."""
        before = set(self.appended)

        def has_flowed() -> bool:
            for task in (self._appending, self._polling):
                if task.done():
                    task.result()  # raises what ended it
            return bool((self.appended - before) & self.read)

        await eventually(has_flowed, within_seconds=100)

    async def end(self) -> None:
        """Stop appending, and return once everything acknowledged was read."""
        self._ending = True
        await asyncio.wait_for(asyncio.gather(self._appending, self._polling), 40)


async def test_a_frozen_cluster_fails_appends_in_time_and_all_goes_on_by_itself_after(one: KafkaCluster) -> None:
    async with connected(one) as broker:
        traffic = Traffic(broker, deadline_seconds=2.0)
        await traffic.flows()

        one.pause(0)
        await eventually(lambda: traffic.outages >= 2, within_seconds=15)
        one.resume(0)
        await traffic.flows()
        await traffic.end()

        assert traffic.longest_seconds < 2.5
        assert traffic.appended <= traffic.read


async def test_a_killed_cluster_fails_appends_in_time_and_all_goes_on_when_it_is_back(one: KafkaCluster) -> None:
    async with connected(one) as broker:
        traffic = Traffic(broker, deadline_seconds=2.0)
        await traffic.flows()

        one.kill(0)
        await eventually(lambda: traffic.outages >= 2, within_seconds=15)
        await asyncio.to_thread(one.restart, 0)
        await traffic.flows()
        await traffic.end()

        assert traffic.longest_seconds < 2.5
        assert traffic.appended <= traffic.read


async def test_without_a_coordinator_a_commit_fails_in_time_and_close_does_not_hang(one: KafkaCluster) -> None:
    async with connected(one) as broker:
        owner, partition = Owner(), TopicPartition(TOPIC, 0)
        consumer = broker.consumer(unique("group"), [TOPIC], owner)
        while partition not in owner.owned:
            await consumer.poll(limit=1, timeout_seconds=10)

        one.pause(0)
        try:
            with pytest.raises(LogUnavailable):
                await asyncio.wait_for(consumer.commit({partition: 0}), 10)
            await asyncio.wait_for(broker.close(), 15)
        finally:
            one.resume(0)

        assert partition in owner.revocations + owner.losses


async def test_one_killed_broker_of_three_loses_nothing_and_fails_no_patient_append(three: KafkaCluster) -> None:
    async with connected(three) as broker:
        traffic = Traffic(broker, deadline_seconds=30.0)
        await traffic.flows()

        three.kill(1)
        await traffic.flows()
        await asyncio.to_thread(three.restart, 1)
        await traffic.end()

        assert traffic.outages == 0
        assert traffic.appended <= traffic.read


def test_the_jars_are_those_of_the_version_named() -> None:
    pom = Path(sys.modules[KafkaCluster.__module__].__file__ or "").with_name("kafka-pom.xml").read_text()

    assert pom.count(f"<version>{KAFKA_VERSION}</version>") == 2


def test_a_cluster_ends_with_the_process_that_started_it_even_by_sigkill(tmp_path: Path) -> None:
    if reason := missing():
        skip_without_kafka(reason)
    script = (
        "import pathlib, signal, sys; from servers.kafka import KafkaCluster;"
        "cluster = KafkaCluster.start(pathlib.Path(sys.argv[1])); print(*cluster.process_ids(), flush=True);"
        "signal.pause()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as starter:
        assert starter.stdout is not None
        kafka = psutil.Process(int(starter.stdout.readline()))

        os.kill(starter.pid, signal.SIGKILL)
        gone, alive = psutil.wait_procs([kafka], timeout=10)

    assert (gone, alive) == ([kafka], [])
