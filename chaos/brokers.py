"""Kafka's brokers: one of three killed, the leader frozen, all of them gone. Replication 3, min.insync.replicas 2."""

import asyncio
from collections.abc import Sequence

from confluent_kafka.admin import AdminClient
from servers.kafka import KafkaCluster

from chaos.account import Allowed
from chaos.failed import RunFailed
from chaos.installation import Setting
from chaos.run import Run, Scenario
from pabal.notification import deliveries_topic

_ALL = (0, 1, 2)
_TOPIC = deliveries_topic("webhook", "standard")
_LOG_ERRORS = 3  # syslog(3)'s number, for librdkafka


async def kill_one_broker(run: Run) -> Allowed:
    """SIGKILL of the one that leads most of the deliveries, and its restart, under load."""
    cluster = _cluster(run)
    await run.pabal.start_all("worker-1")
    async with run.steady_load():
        await run.until_arrived(run.size.kill_at)
        broker = await _leader(cluster)
        await asyncio.to_thread(cluster.kill, broker)
        await run.while_loaded(run.size.outage_seconds)
        run.fault_over()
        await asyncio.to_thread(cluster.restart, broker)
        await run.while_loaded(run.size.outage_seconds / 4)
    run.notes.append(_told_of_refusals(run))
    return Allowed(duplicates=0)


async def freeze_the_leader(run: Run) -> Allowed:
    """SIGSTOP: its connections stay open and nothing answers, longer than the cluster waits for it."""
    cluster = _cluster(run)
    await run.pabal.start_all("worker-1")
    async with run.steady_load():
        await run.until_arrived(run.size.kill_at)
        broker = await _leader(cluster)
        cluster.pause(broker)
        await run.while_loaded(run.size.outage_seconds)
        run.fault_over()
        cluster.resume(broker)
        await run.while_loaded(run.size.outage_seconds / 4)
    run.notes.append(_told_of_refusals(run))
    return Allowed(duplicates=0)


async def kill_every_broker(run: Run) -> Allowed:
    """No log at all: the API answers 503 with Retry-After, and everything recovers by itself."""
    cluster = _cluster(run)
    await run.pabal.start_all("worker-1")
    async with run.steady_load():
        await run.until_arrived(run.size.kill_at)
        for broker in _ALL:
            await asyncio.to_thread(cluster.kill, broker)
        await run.while_loaded(run.size.outage_seconds)
        run.fault_over()
        await asyncio.to_thread(cluster.restart, *_ALL)
        await run.while_loaded(run.size.outage_seconds / 4)
    if not run.load.refused["503"]:
        run.problems.append("no request was answered 503 while there was no log")
    run.notes.append(_told_of_refusals(run))
    return Allowed(duplicates=0)


def _cluster(run: Run) -> KafkaCluster:
    if run.pabal.cluster is None:
        raise RunFailed("this scenario needs a Kafka")
    return run.pabal.cluster


async def _leader(cluster: KafkaCluster) -> int:
    """The broker (0 is the first) that leads most partitions of the deliveries."""

    def look() -> Sequence[int]:
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": _LOG_ERRORS})
        partitions = admin.list_topics(_TOPIC, timeout=20).topics[_TOPIC].partitions.values()
        return [partition.leader - 1 for partition in partitions]

    leaders = await asyncio.to_thread(look)
    return max(leaders, key=leaders.count)


def _told_of_refusals(run: Run) -> str:
    refused = ", ".join(f"{count} × {kind}" for kind, count in sorted(run.load.refused.items()))
    return f"tries that were not answered 202 meanwhile: {refused or 'none'}"


_THREE = Setting(brokers=3)

SCENARIOS = (
    Scenario(
        name="broker",
        title="one of three brokers SIGKILLed and restarted under load",
        do=kill_one_broker,
        logs=("kafka",),
        setting=_THREE,
    ),
    Scenario(
        name="frozen-leader",
        title="the leading broker SIGSTOPped for 20 s under load",
        do=freeze_the_leader,
        logs=("kafka",),
        setting=_THREE,
    ),
    Scenario(
        name="no-brokers",
        title="all three brokers gone for 20 s under load",
        do=kill_every_broker,
        logs=("kafka",),
        setting=_THREE,
    ),
)
"""In the order of the table."""
