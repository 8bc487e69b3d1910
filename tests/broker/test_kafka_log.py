"""librdkafka's complaints: told once in a while."""

import logging
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pabal.broker.kafka.client import logger as kafka_logger
from pabal.broker.kafka.log import MOST_REMEMBERED, REPEAT_SECONDS, OnceInAWhile

REFUSED = "[thrd:kafka-1:9092/bootstrap]: kafka-1:9092/bootstrap: Connect failed: refused (after {}ms in state CONNECT)"


def line(text: str, *, at: float, client: str = "pabal#producer-1", facility: str = "FAIL") -> logging.LogRecord:
    """As confluent-kafka logs it, `at` seconds."""
    made = logging.LogRecord("pabal.broker.kafka.broker", 40, "", 0, "%s [%s] %s", (facility, client, text), None)
    made.created = at
    return made


def test_a_complaint_that_several_clients_repeat_is_told_once_in_a_while_with_how_often_it_was_not() -> None:
    once = OnceInAWhile()

    told = [
        once.filter(line(REFUSED.format(at), at=1_000 + at / 10, client=f"pabal#consumer-{at % 3}")) for at in range(40)
    ]
    again = line(REFUSED.format(7), at=1_000 + REPEAT_SECONDS)

    assert told == [True] + [False] * 39
    assert once.filter(again)
    assert again.getMessage().endswith("(after 7ms in state CONNECT) (and 39 times before)")


def test_what_differs_is_told_at_once_and_so_is_the_same_after_a_while() -> None:
    once = OnceInAWhile()
    assert once.filter(line(REFUSED.format(0), at=1_000))

    assert once.filter(line(REFUSED.format(0).replace("kafka-1", "kafka-2"), at=1_000))
    assert once.filter(line(REFUSED.format(0), at=1_000, facility="ERROR"))
    later = line(REFUSED.format(0), at=1_000 + REPEAT_SECONDS)
    assert once.filter(later)
    assert "times before" not in later.getMessage()


def test_what_is_remembered_stays_small() -> None:
    once = OnceInAWhile()

    for number in range(5 * MOST_REMEMBERED):
        assert once.filter(line(f"complaint {number}", at=1_000))

    assert len(once._told) <= MOST_REMEMBERED


def test_lines_of_our_own_always_pass() -> None:
    once = OnceInAWhile()
    made = logging.LogRecord("pabal.broker.kafka.broker", 30, "", 0, "leaving group %s: %s", ("g", "x"), None)

    assert [once.filter(made), once.filter(made)] == [True, True]


def test_a_cluster_that_refuses_every_connection_fills_no_log() -> None:
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    kafka_logger.addHandler(handler)
    config: dict[str, Any] = {"bootstrap.servers": "127.0.0.1:9", "reconnect.backoff.ms": 50, "logger": kafka_logger}
    client = AdminClient(config)
    try:
        client.list_topics(timeout=1)
    except KafkaException:
        client.poll(0.1)
    finally:
        kafka_logger.removeHandler(handler)

    assert 1 <= len(lines) <= 5, lines[:10]
