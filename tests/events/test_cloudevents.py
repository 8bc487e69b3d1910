"""`pabal.events` is read by what others wrote for CloudEvents and for Kafka."""

import asyncio
import json
import shlex
import uuid
from datetime import datetime
from pathlib import Path

import confluent_kafka
import msgspec
import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka_event

from pabal.notification import DeliveryEvent, Receipt
from tests.events.log import AT, a_receipt, an_event, append, read, value_of
from tests.programs import needs_program


def cloud_event_in(message: confluent_kafka.Message) -> BaseCloudEvent:
    """What the SDK makes of a message."""
    fields = message.headers()
    assert isinstance(fields, list)
    headers = {name: value for name, value in fields if isinstance(value, bytes)}
    return from_kafka_event(KafkaMessage(headers=headers, key=message.key(), value=message.value() or b""))


async def test_the_cloudevents_sdk_reads_an_event(kafka_bootstrap: str) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    event = msgspec.structs.replace(an_event(), traceparent=trace)
    await append(kafka_bootstrap, [event])

    [message] = await read(kafka_bootstrap, [event.delivery_id.hex.encode()])
    read_as = cloud_event_in(message)

    assert read_as.get_specversion() == "1.0"
    assert read_as.get_id() == str(event.id)
    assert read_as.get_type() == "pabal.delivery.sent"
    assert read_as.get_source() == "/pabal"
    assert read_as.get_time() == AT
    assert read_as.get_extension("traceparent") == trace
    assert read_as.get_datacontenttype() == "application/json"
    assert read_as.get_data() == value_of(event)


async def test_the_cloudevents_sdk_reads_a_receipt(kafka_bootstrap: str) -> None:
    receipt = a_receipt(uuid.uuid4())
    assert receipt.delivery_id is not None
    await append(kafka_bootstrap, [receipt])

    [message] = await read(kafka_bootstrap, [receipt.delivery_id.hex.encode()])
    read_as = cloud_event_in(message)

    assert read_as.get_type() == "pabal.receipt.bounced"
    assert read_as.get_id() == str(receipt.id)
    assert read_as.get_data() == value_of(receipt)


@pytest.fixture
def kcat() -> str:
    return needs_program("kcat", package="kcat")


async def output_of(*command: str) -> bytes:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed


@pytest.mark.parametrize("fact", [an_event(), a_receipt(uuid.uuid4())], ids=["event", "receipt"])
async def test_kcat_reads_them(kafka_bootstrap: str, kcat: str, fact: DeliveryEvent | Receipt) -> None:
    assert fact.delivery_id is not None
    await append(kafka_bootstrap, [fact])

    arguments = ["-C", "-b", kafka_bootstrap, "-t", "pabal.events", "-o", "beginning", "-e", "-q", "-J"]
    lines = [json.loads(line) for line in (await output_of(kcat, *arguments)).splitlines()]

    [line] = [line for line in lines if line["key"] == fact.delivery_id.hex]
    headers = dict(zip(line["headers"][::2], line["headers"][1::2], strict=True))
    assert (headers["ce_specversion"], headers["ce_id"]) == ("1.0", str(fact.id))
    assert headers["ce_type"].endswith(fact.kind)
    assert datetime.fromisoformat(headers["ce_time"]) == AT
    assert json.loads(line["payload"]) == value_of(fact)


async def test_the_documented_kcat_command_shows_the_latest(kafka_bootstrap: str, kcat: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
    [documented] = [line for line in page.splitlines() if line.startswith("kcat ")]
    event = an_event()
    await append(kafka_bootstrap, [event])

    command = shlex.split(documented.replace("localhost:9092", kafka_bootstrap))
    printed = (await output_of(kcat, *command[1:])).decode()

    assert "ce_type=pabal.delivery.sent" in printed
    assert str(event.delivery_id) in printed
