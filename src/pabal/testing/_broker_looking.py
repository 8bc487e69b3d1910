"""Laws about looking at the log as a whole: many topics and groups in one question, members, the cluster."""

import pytest

from pabal.broker.port import TopicPartition
from pabal.errors import UnknownTopic
from pabal.testing._broker_lab import BrokerHarness, Lab


class LookingLaws(BrokerHarness):
    """What a monitor asks every few seconds."""

    async def test_many_topics_are_asked_at_once_and_tell_what_each_tells_alone(self, lab: Lab) -> None:
        one, other, admin = await lab.topic(partitions=2), await lab.topic(), lab.broker.admin()
        await lab.append(one, "a", "b", partition=1)
        await lab.append(other, "c")

        both = await admin.watermarks(one, other)

        assert both == {**await admin.watermarks(one), **await admin.watermarks(other)}
        assert len(both) == 3
        assert await admin.watermarks() == {}

    async def test_one_missing_topic_among_many_is_named(self, lab: Lab) -> None:
        missing = lab.name()

        with pytest.raises(UnknownTopic, match=missing):
            await lab.broker.admin().watermarks(await lab.topic(), missing)

    async def test_all_that_a_group_committed_is_told_when_no_topic_is_named(self, lab: Lab) -> None:
        one, other, group = await lab.topic(), await lab.topic(), lab.name()
        await lab.append(one, "a")
        await lab.append(other, "b")
        member = lab.member(group, one, other)
        await member.take(2)
        await member.commit()

        committed = await lab.broker.admin().committed(group)

        assert committed == {TopicPartition(one, 0): 1, TopicPartition(other, 0): 1}

    async def test_each_partition_has_the_owner_that_the_group_gave_it(self, lab: Lab) -> None:
        topic, group, admin = await lab.topic(partitions=2), lab.name(), lab.broker.admin()
        first = lab.member(group, topic, instance="first")
        await first.join()
        second = lab.member(group, topic, instance="second")
        await lab.poll_until(lambda: len(first.owned) == len(second.owned) == 1, first, second)

        found = (await admin.members([group]))[group]

        assert found.members == 2
        owned = {name: {each for each, owner in found.owners.items() if owner == name} for name in ("first", "second")}
        assert owned == {"first": first.owned, "second": second.owned}

    async def test_a_group_without_members_and_one_that_never_was_are_told_as_empty(self, lab: Lab) -> None:
        topic, group, never, admin = await lab.topic(), lab.name(), lab.name(), lab.broker.admin()
        member = lab.member(group, topic)
        await member.join()
        await member.close()

        found = await admin.members([group, never])

        assert {name: (each.members, dict(each.owners)) for name, each in found.items()} == {
            group: (0, {}),
            never: (0, {}),
        }
        assert await admin.members([]) == {}

    async def test_the_cluster_keeps_its_name_and_every_replica_is_in_sync(self, lab: Lab) -> None:
        topic = await lab.topic(partitions=2)

        cluster = await lab.broker.admin().cluster()
        again = await (await lab.connect()).admin().cluster()

        assert cluster.id
        assert cluster.id == again.id
        if cluster.brokers:
            replicas = [cluster.replicas[TopicPartition(topic, number)] for number in range(2)]
            assert all(each.in_sync == each.total >= 1 for each in replicas)
        else:
            assert cluster.replicas == {}
