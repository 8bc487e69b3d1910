"""Looking at and shaping Kafka's topics and groups."""

import asyncio
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException
from confluent_kafka import TopicPartition as RdTopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # it re-exports without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConsumerGroupDescription,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    PartitionMetadata,
    ResourceType,
)

from pabal.broker.kafka.client import KafkaSettings, cause, describe, log_error, make_client
from pabal.broker.port import Cluster, GroupMembers, Replicas, TopicPartition, TopicSpec, Watermarks
from pabal.errors import Closed, LogError, LogUnavailable, UnknownTopic

_ANSWER_SECONDS = 10.0

_SETTLE_SECONDS = 10.0
"""How long a change may take to be seen by every broker."""

_LOOK_AGAIN_SECONDS = 0.05

_REMEMBER_SECONDS = 60.0


class KafkaAdmin:
    """See `pabal.broker.port.Admin`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._trouble = ""
        # Kept for the object's life: futures of a client that is collected fail.
        self._client: AdminClient = make_client(AdminClient, settings.admin_config() | {"error_cb": self._note})
        self._closed = False
        self._in_sync: dict[str, tuple[float, int]] = {}

    async def check(self, *, timeout_seconds: float) -> None:
        """Return when the cluster answers.

        Raises:
            LogUnavailable: it does not, within the timeout; says what librdkafka saw (refused, wrong password).
        """
        try:
            await asyncio.wrap_future(self._client.describe_cluster(request_timeout=timeout_seconds))
        except KafkaException as error:
            self._client.poll(0)  # calls `_note`
            reason = self._trouble or describe(cause(error))
            raise LogUnavailable(f"the Kafka cluster does not answer: {reason}") from error

    async def topics(self) -> Mapping[str, TopicSpec]:
        """See `Admin.topics`. Kafka's own (`__consumer_offsets` and the like) are left out."""
        found = await self._list_topics()
        names = [name for name in found if not name.startswith("__")]
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        futures = self._open().describe_configs(resources, request_timeout=_ANSWER_SECONDS)
        specs = {}
        for resource, future in futures.items():
            try:
                config = await self._settings_of(resource.name, future)
            except UnknownTopic:
                continue  # deleted since it was listed
            partitions = found[resource.name].partitions
            compacted = "compact" in config["cleanup.policy"].value
            retention_ms = int(config["retention.ms"].value)
            specs[resource.name] = TopicSpec(
                name=resource.name,
                partitions=len(partitions),
                retention_seconds=None if retention_ms < 0 or compacted else retention_ms // 1000,
                compacted=compacted,
                replication=max((len(each.replicas) for each in partitions.values()), default=None),
            )
        return specs

    async def create_topic(self, spec: TopicSpec) -> bool:
        """See `Admin.create_topic`. Returns when the topic can be used."""
        new = NewTopic(
            spec.name,
            num_partitions=spec.partitions,
            replication_factor=-1 if spec.replication is None else spec.replication,
            # A record's timestamp is its append time, whichever client appended it.
            config={**_cleanup(spec), "message.timestamp.type": "LogAppendTime"},
        )
        future = self._open().create_topics([new], request_timeout=_ANSWER_SECONDS)[spec.name]
        try:
            await asyncio.wrap_future(future)
        except KafkaException as error:
            if cause(error).code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise log_error(cause(error), doing=f"cannot create topic {spec.name!r}") from error
        await self._settle(spec.name, partitions=spec.partitions)
        return True

    async def add_partitions(self, topic: str, *, total: int) -> None:
        """See `Admin.add_partitions`. Returns when they can be used."""
        current = len((await self._find(topic)).partitions)
        if total < current:
            raise LogError(f"topic {topic!r} has {current} partitions; it cannot shrink to {total}")
        if total == current:
            return
        futures = self._open().create_partitions([NewPartitions(topic, total)], request_timeout=_ANSWER_SECONDS)
        await self._wait(futures[topic], doing=f"cannot grow topic {topic!r}", topic=topic)
        await self._settle(topic, partitions=total)

    async def configure_topic(self, spec: TopicSpec) -> None:
        """See `Admin.configure_topic`."""
        await self._find(spec.name)
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in _cleanup(spec).items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, spec.name, incremental_configs=entries)
        futures = self._open().incremental_alter_configs([resource], request_timeout=_ANSWER_SECONDS)
        for future in futures.values():
            await self._wait(future, doing=f"cannot configure topic {spec.name!r}", topic=spec.name)

    async def watermarks(self, *topics: str) -> Mapping[TopicPartition, Watermarks]:
        """See `Admin.watermarks`: the topics' metadata in one request, then both ends of all partitions."""
        found = {topics[0]: await self._find(topics[0])} if len(topics) == 1 else await self._list_topics()
        partitions = [
            TopicPartition(topic, number) for topic in topics for number in sorted(_known(found, topic).partitions)
        ]
        low = await self._offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        high = await self._offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return {each: Watermarks(low[each], high[each]) for each in partitions}

    async def check_writable(self, topics: Collection[str]) -> None:
        """See `Admin.check_writable`: every leader answers, and as many replicas are in sync as an append needs."""
        names = sorted(topics)
        await self.watermarks(*names)
        found = await self._list_topics()
        for name in names:
            needed = await self._least_in_sync(name)
            for number, partition in sorted(found[name].partitions.items()):
                if reason := too_few_in_sync(partition, needed=needed):
                    raise LogUnavailable(f"{name}[{number}] {reason}")

    async def _least_in_sync(self, topic: str) -> int:
        """`min.insync.replicas`, looked up once a minute."""
        now = asyncio.get_running_loop().time()
        known = self._in_sync.get(topic)
        if known is not None and now - known[0] < _REMEMBER_SECONDS:
            return known[1]
        futures = self._open().describe_configs(
            [ConfigResource(ResourceType.TOPIC, topic)], request_timeout=_ANSWER_SECONDS
        )
        [future] = futures.values()
        config = await self._settings_of(topic, future)
        self._in_sync[topic] = now, int(config["min.insync.replicas"].value)
        return self._in_sync[topic][1]

    async def committed(self, group: str, topics: Collection[str] | None = None) -> Mapping[TopicPartition, int]:
        """See `Admin.committed`."""
        request = [ConsumerGroupTopicPartitions(group)]
        futures = self._open().list_consumer_group_offsets(request, request_timeout=_ANSWER_SECONDS)
        try:
            answer = await asyncio.wrap_future(futures[group])
        except KafkaException as error:
            if cause(error).code() == KafkaError.GROUP_ID_NOT_FOUND:
                return {}
            doing, right = f"cannot read the offsets of group {group!r}", f"Describe on group {group!r}"
            raise log_error(cause(error), doing=doing, right=right) from error
        return {
            TopicPartition(each.topic, each.partition): each.offset
            for each in answer.topic_partitions
            if (topics is None or each.topic in topics) and each.offset >= 0
        }

    async def members(self, groups: Collection[str]) -> Mapping[str, GroupMembers]:
        """See `Admin.members`."""
        if not groups:
            return {}
        futures = self._open().describe_consumer_groups(list(groups), request_timeout=_ANSWER_SECONDS)
        return {group: await self._members_of(group, future) for group, future in futures.items()}

    async def _members_of(self, group: str, future: "Future[ConsumerGroupDescription]") -> GroupMembers:
        try:
            described = await asyncio.wrap_future(future)
        except KafkaException as error:
            if cause(error).code() == KafkaError.GROUP_ID_NOT_FOUND:
                return GroupMembers(members=0, owners={})
            doing, right = f"cannot describe group {group!r}", f"Describe on group {group!r}"
            raise log_error(cause(error), doing=doing, right=right) from error
        owners = {
            TopicPartition(each.topic, each.partition): member.group_instance_id or member.member_id
            for member in described.members
            for each in (member.assignment.topic_partitions if member.assignment else ())
        }
        return GroupMembers(members=len(described.members), owners=owners)

    async def cluster(self) -> Cluster:
        """See `Admin.cluster`. Kafka's own topics are left out."""
        client = self._open()
        try:
            found = await asyncio.to_thread(client.list_topics, None, _ANSWER_SECONDS)
        except KafkaException as error:
            raise log_error(
                cause(error), doing="cannot describe the cluster", right="Describe on the cluster"
            ) from error
        replicas = {
            TopicPartition(name, number): Replicas(in_sync=len(each.isrs), total=len(each.replicas))
            for name, topic in found.topics.items()
            if not name.startswith("__")
            for number, each in topic.partitions.items()
        }
        return Cluster(id=found.cluster_id or "", brokers=len(found.brokers), replicas=replicas)

    async def reset_offsets(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """See `Admin.reset_offsets`."""
        client = self._open()
        if not offsets:
            return
        partitions = [RdTopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
        request = [ConsumerGroupTopicPartitions(group, partitions)]
        future = client.alter_consumer_group_offsets(request, request_timeout=_ANSWER_SECONDS)[group]
        try:
            answer = await asyncio.wrap_future(future)
        except KafkaException as error:
            raise _reset_error(cause(error), group) from error
        for each in answer.topic_partitions:
            if each.error is not None:
                raise _reset_error(each.error, group)

    async def close(self) -> None:
        """See `Admin.close`."""
        self._closed = True

    def _open(self) -> AdminClient:
        if self._closed:
            raise Closed("this admin client was closed")
        # librdkafka's log lines wait in its queue for a poll.
        self._client.poll(0)
        return self._client

    def _note(self, error: KafkaError) -> None:
        # The first says why; what follows is that all brokers are down.
        self._trouble = self._trouble or describe(error)

    async def _wait(
        self, future: "Future[Any]", *, doing: str, topic: str | None = None, right: str | None = None
    ) -> Any:
        try:
            return await asyncio.wrap_future(future)
        except KafkaException as error:
            raise log_error(cause(error), doing=doing, topic=topic, right=right) from error

    async def _settings_of(self, topic: str, future: "Future[Any]") -> Any:
        right = f"DescribeConfigs on topic {topic!r}"
        return await self._wait(future, doing="cannot read topic settings", topic=topic, right=right)

    async def _list_topics(self, topic: str | None = None) -> Mapping[str, Any]:
        client = self._open()
        try:
            found = await asyncio.to_thread(client.list_topics, topic, _ANSWER_SECONDS)
        except KafkaException as error:
            raise log_error(cause(error), doing="cannot list topics", topic=topic) from error
        topics: Mapping[str, Any] = found.topics
        return topics

    async def _find(self, topic: str) -> Any:
        found = (await self._list_topics(topic))[topic]
        if found.error is not None and found.error.code() != KafkaError.LEADER_NOT_AVAILABLE:
            raise log_error(found.error, doing=f"cannot look up topic {topic!r}", topic=topic)
        return found

    async def _settle(self, topic: str, *, partitions: int) -> None:
        """Wait until every partition is known and has a leader, so that the next call finds it."""
        deadline = asyncio.get_running_loop().time() + _SETTLE_SECONDS
        while True:
            found = (await self._list_topics(topic))[topic]
            led = [each for each in found.partitions.values() if each.leader >= 0 and each.error is None]
            if len(led) >= partitions:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise LogError(f"topic {topic!r} was made, but only {len(led)} of {partitions} partitions have leaders")
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _offsets(self, partitions: Collection[TopicPartition], spec: OffsetSpec) -> dict[TopicPartition, int]:
        request = {RdTopicPartition(*each): spec for each in partitions}
        futures = self._open().list_offsets(request, request_timeout=_ANSWER_SECONDS)
        offsets = {}
        for partition, future in futures.items():
            result = await self._wait(future, doing="cannot read watermarks", topic=partition.topic)
            offsets[TopicPartition(partition.topic, partition.partition)] = result.offset
        return offsets


def _known(found: Mapping[str, Any], topic: str) -> Any:
    if topic not in found:
        raise UnknownTopic(topic)
    return found[topic]


def too_few_in_sync(partition: PartitionMetadata, *, needed: int) -> str | None:
    """Why an append to the partition fails where `min.insync.replicas` is `needed`; None: it does not.

    A broker asks for no more replicas than there are (Partition.effectiveMinIsr).
    """
    needed = min(needed, len(partition.replicas))
    in_sync = len(partition.isrs)
    return f"has {in_sync} replicas in sync, an append needs {needed}" if in_sync < needed else None


def _cleanup(spec: TopicSpec) -> dict[str, str]:
    """Retention and compaction in Kafka's settings; -1 keeps for ever."""
    keep_for_ever = spec.compacted or spec.retention_seconds is None
    return {
        "cleanup.policy": "compact" if spec.compacted else "delete",
        "retention.ms": "-1" if keep_for_ever else str(1000 * (spec.retention_seconds or 0)),
    }


def _reset_error(error: KafkaError, group: str) -> LogError:
    # A group with members refuses offsets that come from outside: UNKNOWN_MEMBER_ID.
    if error.code() in {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.NON_EMPTY_GROUP}:
        return LogError(f"group {group!r} has members; its offsets can be set when they have left")
    return log_error(error, doing=f"cannot set the offsets of group {group!r}")
