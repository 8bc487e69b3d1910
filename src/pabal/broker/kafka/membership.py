"""The life of the client that is a member of a group: it joins, leaves, is fenced, and begins anew.

* *away*: the client is no member. It joins when the consumer is polled, unless the last poll has heard already that a
  topic is missing, or the group has just turned it away.
* *joined*: the client has subscribed, and the group gives it partitions. It leaves when no poll comes for a session,
  and when the partitions could not be taken. Then it is away.
* *fenced*: another static member took this one's place. Nothing follows but the end.

A client is over when librdkafka says so (`end_for_good`), or when its group has forgotten it. A new client takes its
place, and is away.
"""

import time
from collections.abc import Sequence

from confluent_kafka import Consumer as RdConsumer
from confluent_kafka import KafkaError, KafkaException

from pabal.broker.kafka.client import KafkaSettings, describe, logger, make_client
from pabal.broker.kafka.loop_calls import LoopCalls
from pabal.broker.kafka.owned import OwnedPartitions
from pabal.broker.kafka.place import NamedPlace
from pabal.broker.kafka.signs import PollSigns
from pabal.errors import LogError, NotAssigned, UnknownTopic

_FORGOTTEN_SECONDS = 30.0
"""How long after its partitions were lost a member waits to be given some: longer than librdkafka's wait for an answer
to a join (`max.poll.interval.ms` and 3 s)."""

_REJOIN_SECONDS = 0.5
"""How long to wait before asking a group again that turned us away."""

_STILL_IN_USE = KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str()


class Membership:
    """See the module. For the member's thread alone. `rd` is the client that lives now."""

    def __init__(
        self,
        settings: KafkaSettings,
        calls: LoopCalls,
        signs: PollSigns,
        owned: OwnedPartitions,
        place: NamedPlace,
        *,
        topics: Sequence[str],
        instance: str | None,
    ) -> None:
        self._calls = calls
        self._signs = signs
        self._owned = owned
        self._place = place
        self._topics = list(topics)
        self._config = settings.consumer_config(group=calls.group, instance=instance)
        self._config["on_commit"] = calls.tell_committed
        self.rd: RdConsumer = make_client(RdConsumer, self._config)
        self._is_fenced = False
        self._refused_at_poll = -1
        self._join_after = 0.0

    @property
    def is_joined(self) -> bool:
        """Whether the client has subscribed."""
        return self._owned.are_wanted

    def settle(self) -> None:
        """Begin anew, leave or join, if that is due."""
        self._place.settle()
        if self.is_joined and self._is_forgotten():
            self._begin_anew()
        silent = self._signs.is_silent()
        if self.is_joined and (silent or self._owned.trouble):
            self._leave(because=self._owned.trouble or "nobody polls")
        elif not self.is_joined and not silent and self._may_join():
            self._join()

    def rejoin(self, *, because: str) -> None:
        """Have the client leave and join again; the first reason is told."""
        self._owned.trouble = self._owned.trouble or because

    def end_for_good(self, error: KafkaError) -> None:
        """librdkafka's consumer is over.

        The classic protocol has one reason: another static member of this name took the place, be it this one's
        own after it was cut off. KIP-848 turns the second one away instead, until the first one's session has
        ended; and it may refuse the whole group.
        """
        group = self._calls.group
        logger.warning("the consumer of group %s ended: %s", group, describe(error))
        self._owned.give_up()
        classic = self._config["group.protocol"] == "classic"
        if classic and not self._place.may_return():
            self._is_fenced = True
            text = f"another member of group {group} took this instance's place: {error.str()}"
            self._calls.tell_failure(NotAssigned(text), for_good=True)
            return
        if not classic and _STILL_IN_USE not in error.str():
            self._calls.tell_failure(LogError(f"consumer of group {group}: {error.str()}"))
        self._renew_client()
        self._place.returned()

    def _may_join(self) -> bool:
        return not (
            self._is_fenced or self._refused_at_poll == self._signs.polls or time.monotonic() < self._join_after
        )

    def _join(self) -> None:
        for topic in self._topics:
            try:
                found = self.rd.list_topics(topic, 1.0).topics[topic]
            except KafkaException as error:
                logger.info("group %s cannot look for topic %s yet: %s", self._calls.group, topic, error)
                return
            if found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                # The next poll looks again.
                self._refused_at_poll = self._signs.polls
                self._calls.tell_failure(UnknownTopic(topic))
                return
        owned = self._owned
        self.rd.subscribe(self._topics, on_assign=owned.on_assign, on_revoke=owned.on_revoke, on_lost=owned.on_lost)
        owned.are_wanted = True

    def _leave(self, *, because: str) -> None:
        logger.warning("leaving group %s: %s", self._calls.group, because)
        self._owned.give_up()
        self._owned.trouble = ""
        self.rd.unsubscribe()

    def _is_forgotten(self) -> bool:
        """Whether its partitions were lost long ago and librdkafka has not joined again.

        Seen with librdkafka 2.16: a coordinator that moved while it was asked never answered, and was not asked again.
        """
        patience = max(_FORGOTTEN_SECONDS, 3 * self._signs.session_seconds)
        return self._owned.lost_at is not None and time.monotonic() - self._owned.lost_at > patience

    def _begin_anew(self) -> None:
        logger.warning("group %s: lost its partitions and was given none since; a new client joins", self._calls.group)
        self._owned.give_up()
        self._renew_client()

    def _renew_client(self) -> None:
        self.rd.close()
        self.rd = make_client(RdConsumer, self._config)
        self._owned.begin_anew()
        self._join_after = time.monotonic() + _REJOIN_SECONDS
