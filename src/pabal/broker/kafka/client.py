"""What the four Kafka clients share: settings of librdkafka, errors in the port's words, records.

Numbers here are in librdkafka's units (milliseconds, kilobytes); its CONFIGURATION.md describes each property.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message

from pabal.broker.kafka.log import OnceInAWhile
from pabal.broker.port import Headers, NewRecord, Record
from pabal.errors import ConfigError, LogError, LogUnavailable, NotAssigned, UnknownTopic
from pabal.notification import LAST_INSTANT

logger = logging.getLogger("pabal.broker.kafka.broker")
"""librdkafka's own log lines and the adapter's."""
logger.addFilter(OnceInAWhile())

GroupProtocol = Literal["classic", "consumer"]

FETCH_AT_ONCE = 500
"""Most records that are taken from librdkafka in one go."""


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What `KafkaBroker` was made with; see there."""

    bootstrap: str
    options: Mapping[str, str]
    group_protocol: GroupProtocol
    session_seconds: float
    client_id: str

    def producer_config(self, *, deadline_seconds: float) -> dict[str, Any]:
        """For appends that are acknowledged or given up within `deadline_seconds`."""
        return self._config("producer.") | {
            "acks": "all",
            "enable.idempotence": True,
            # Java's default, so that a key has one partition whatever language appends it.
            "partitioner": "murmur2_random",
            # librdkafka looks for timed-out records once a second: it must begin that much before the deadline.
            "message.timeout.ms": int(1000 * max(deadline_seconds - 1, 0.7 * deadline_seconds)),
            # A lone record waits this long for company (librdkafka's timers make it about 1 ms). Measured on two
            # cores: with 0 it is acknowledged in 0.4 ms, with this in 1.4; in a burst over 64 tasks this costs us
            # 16 µs a record instead of 21, and the broker 10 instead of 27.
            "linger.ms": self._option("producer.", "linger.ms", "0.5"),
            # High enough that the topic's own limit decides what is too large, not ours.
            "message.max.bytes": self._option("producer.", "message.max.bytes", str(8 << 20)),
            # librdkafka's default, said because `is_to_blame` rests on it: a larger record travels alone, and a batch
            # of several is below Kafka's default limit of 1 MiB.
            "batch.size": self._option("producer.", "batch.size", "1000000"),
        }

    def consumer_config(self, *, group: str, instance: str | None) -> dict[str, Any]:
        """For a member of `group`."""
        session_ms = int(self.session_seconds * 1000)
        config = self._config("consumer.") | {
            "group.id": group,
            "group.protocol": self.group_protocol,
            # Progress is what `commit` says and nothing else.
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            # The adapter leaves the group itself when no poll comes; this covers a stuck interpreter.
            "max.poll.interval.ms": max(session_ms, 10_000),
            # After a coordinator was lost: look for the new one each tenth of this.
            "coordinator.query.interval.ms": 5000,
            **self._fetch_config("consumer."),
        }
        if instance is not None:
            config["group.instance.id"] = instance
        # KIP-848 moves these three to the broker, and librdkafka refuses them there.
        if self.group_protocol == "classic":
            config["session.timeout.ms"] = session_ms
            # A member learns of a rebalance by its next heartbeat, and a cooperative one takes two rounds.
            config["heartbeat.interval.ms"] = max(1, min(session_ms // 6, 500))
            config["partition.assignment.strategy"] = "cooperative-sticky"
        return config

    def reader_config(self) -> dict[str, Any]:
        """For reading without a group (librdkafka wants a group's name; nothing ever joins or commits there)."""
        return self._config("consumer.") | {
            "group.id": f"{self.client_id}.reader",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            **self._fetch_config("consumer."),
        }

    def admin_config(self) -> dict[str, Any]:
        """For looking at and shaping topics and groups."""
        return self._config("admin.")

    def _config(self, client: str) -> dict[str, Any]:
        """The common part, with the options that are for every client or for this one."""
        return {
            # Neither kind of client gives up its connection attempts for long when the cluster is back.
            "reconnect.backoff.ms": "50",
            "reconnect.backoff.max.ms": "1000",
            # A broker that stopped answering is noticed within the patience of the waiting task.
            "socket.timeout.ms": "10000",
            "topic.metadata.refresh.fast.interval.ms": "100",
            # Partitions that were added are found within this, instead of five minutes.
            "topic.metadata.refresh.interval.ms": "5000",
            **self._options(client),
            "bootstrap.servers": self.bootstrap,
            "client.id": self.client_id,
            "allow.auto.create.topics": False,
            "logger": logger,
        }

    def _fetch_config(self, client: str) -> dict[str, Any]:
        defaults = {
            # A worker has half a dozen consumers: megabytes each, not librdkafka's 64.
            "queued.max.messages.kbytes": "4096",
            "queued.min.messages": "2000",
            "fetch.max.bytes": "4194304",
            # When that queue was full: fetch again so soon (the default is a second).
            "fetch.queue.backoff.ms": "5",
            # Records that are there are answered at once. A partition newly assigned or resumed waits for the
            # fetch under way, which this bounds; six idle consumers cost a broker 3 % of a core at 200, 6 % at 100.
            "fetch.min.bytes": "1",
            "fetch.wait.max.ms": "200",
            "fetch.error.backoff.ms": "100",
        }
        return {name: self._option(client, name, default) for name, default in defaults.items()}

    def _options(self, client: str) -> dict[str, str]:
        """`options` without the options of the other clients; a `producer.`, `consumer.` or `admin.` in front goes."""
        mine = {name.removeprefix(client): value for name, value in self.options.items() if name.startswith(client)}
        common = {name: value for name, value in self.options.items() if not name.startswith(_CLIENTS)}
        return common | mine

    def _option(self, client: str, name: str, default: str) -> str:
        return self._options(client).get(name, default)


_CLIENTS = ("producer.", "consumer.", "admin.")

_OURS = frozenset(
    {
        "acks",
        "allow.auto.create.topics",
        "auto.offset.reset",
        "bootstrap.servers",
        "client.id",
        "delivery.timeout.ms",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "heartbeat.interval.ms",
        "max.poll.interval.ms",
        "message.timeout.ms",
        "partition.assignment.strategy",
        "partitioner",
        "request.required.acks",
        "session.timeout.ms",
        "transactional.id",
    }
)
"""Properties that Pabal's guarantees rest on."""


def check_options(options: Mapping[str, str]) -> None:
    """Refuse options that would break the adapter's promises.

    Raises:
        ConfigError: an option is one that Pabal sets itself.
    """
    for name in options:
        bare = next((name.removeprefix(client) for client in _CLIENTS if name.startswith(client)), name)
        if bare in _OURS:
            raise ConfigError(f"Kafka option {name!r} is set by Pabal itself and cannot be changed")


def make_client(kind: Any, config: dict[str, Any]) -> Any:
    """A librdkafka client of `kind` (`Producer`, `Consumer`, `AdminClient`).

    Raises:
        ConfigError: librdkafka does not know an option or its value.
    """
    try:
        return kind(config)
    except (KafkaException, ValueError, TypeError) as error:
        # Not `from error`, whose words may hold the value of an option.
        raise ConfigError(f"Kafka does not accept these options: {_without_secrets(str(error), config)}") from None


def _without_secrets(text: str, config: Mapping[str, Any]) -> str:
    for name, value in config.items():
        if _SECRET.search(name) and isinstance(value, str) and value:
            text = text.replace(value, "…")
    return text


_SECRET = re.compile(r"password|secret|token|key|pem|jaas|oauthbearer")
"""Names of librdkafka's options whose values stay secret."""


def describe(error: KafkaError) -> str:
    """An error with its stable name, as it goes into a message."""
    return f"{error.str()} ({error.name()})"


def cause(error: KafkaException) -> KafkaError:
    """The error inside the exception."""
    inner: KafkaError = error.args[0]
    return inner


_UNKNOWN_TOPIC = frozenset({KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_ID})

_FENCED = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.FENCED_INSTANCE_ID,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError.UNRELEASED_INSTANCE_ID,
        KafkaError._ASSIGNMENT_LOST,
        KafkaError._FATAL,
    }
)

_FINAL = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_MSG,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError.POLICY_VIOLATION,
        KafkaError.INVALID_CONFIG,
        KafkaError.INVALID_PARTITIONS,
        KafkaError.INVALID_REPLICATION_FACTOR,
        KafkaError.INVALID_REQUEST,
        KafkaError.NON_EMPTY_GROUP,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._INVALID_ARG,
        KafkaError._AUTHENTICATION,
        KafkaError._UNSUPPORTED_FEATURE,
    }
)


def is_final(error: KafkaError) -> bool:
    """Whether asking again would give the same answer."""
    return error.code() in _FINAL


_FORBIDDEN = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)


def log_error(error: KafkaError, *, doing: str, topic: str | None = None, right: str | None = None) -> LogError:
    """`error` as the port's exception. What is not known to be final counts as "unknown, try again".

    `right`: what the brokers ask for (an operation of their ACLs, and on what), to be named when it is missing.
    """
    if topic is not None and error.code() in _UNKNOWN_TOPIC:
        return UnknownTopic(topic)
    kind = LogError if is_final(error) else LogUnavailable
    if right is not None and error.code() in _FORBIDDEN:
        return kind(f"{doing}: this user lacks the right {right} ({error.name()})")
    return kind(f"{doing}: {describe(error)}")


_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})


def is_refusal(error: KafkaError) -> bool:
    """Whether the brokers refused the content of a batch: of this record, or of one that shared its batch."""
    return error.code() in _TOO_LARGE or error.code() == KafkaError.INVALID_RECORD


def is_to_blame(record: NewRecord, error: KafkaError, *, batch_bytes: int) -> bool:
    """Whether `record` itself is what `is_refusal` speaks of. librdkafka gives one answer to a whole batch.

    Only a record that is larger than `batch_bytes` (`batch.size`) travels alone. A record that is not valid is,
    on any broker that speaks to us at all, one without a key on a compacted topic.
    """
    if error.code() not in _TOO_LARGE:
        return record.key is None
    return size_of(record) > batch_bytes


def size_of(record: NewRecord) -> int:
    """Bytes of a record's content, without Kafka's framing."""
    headers = sum(len(name.encode()) + len(value) for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


def commit_error(error: KafkaError) -> LogError:
    """The answer to a commit as the port's exception."""
    if error.code() in _FENCED:
        return NotAssigned(f"the group has moved on without this member: {describe(error)}")
    return log_error(error, doing="cannot commit")


_LAST_STAMP_MS = int(LAST_INSTANT.timestamp() * 1000)
"""A topic that somebody else made may keep the time that its writers claim (CreateTime): any 64 bits."""


def to_records(messages: Iterable[Message]) -> list[Record]:
    """Confluent's messages (without errors) as the port's records."""
    records: list[Record] = []
    append = records.append
    for message in messages:
        headers = message.headers()
        stamp = message.timestamp()[1]
        append(
            Record(
                topic=message.topic(),  # type: ignore[arg-type] # None only in messages of other origin
                partition=message.partition(),  # type: ignore[arg-type]
                offset=message.offset(),  # type: ignore[arg-type]
                timestamp=stamp / 1000 if 0 <= stamp < _LAST_STAMP_MS else 0.0,
                key=message.key(),
                value=message.value(),
                headers=_to_headers(headers) if headers else (),
            )
        )
    return records


def _to_headers(headers: Any) -> Headers:
    # A header without a value (null) is legal in Kafka; the port knows bytes only.
    return tuple([(name, value or b"") for name, value in headers])
