"""What stands in the log is what the contracts describe: every kind of message, made by the code that makes it."""

import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import jsonschema
import msgspec
import pytest

import pabal
from pabal.audit import AuditFact, audit_record
from pabal.broker.port import NewRecord, Record
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.channels.content import make_content
from pabal.channels.email import EmailContent
from pabal.channels.webhook import WebhookContent
from pabal.clock import ManualClock
from pabal.codec import (
    cut_record,
    dead_record,
    delay_record,
    delivery_record,
    event_record,
    lifting_record,
    receipt_record,
    suppression_record,
)
from pabal.contracts.asyncapi import describe_topics
from pabal.contracts.records import RECORDS
from pabal.contracts.schemas import Json, describe_record
from pabal.contracts.topics import TOPICS
from pabal.dlq.redrive.claim import TopicClaim, claim_record, release_record
from pabal.monitor.history import GroupMinute, Minute, history_record
from pabal.notification import (
    EVENTS_TOPIC,
    Delivery,
    DeliveryEvent,
    EventKind,
    Receipt,
    ReceiptKind,
    Suppression,
    TemplateRef,
)
from pabal.offsets.passed import PassedOver, decided_record, passed_record
from pabal.offsets.seeks import Seek, seek_record
from pabal.ops.brakes import RECORDER, BrakeState, brake_record
from pabal.ops.ledger_binding import LedgerBinding
from pabal.ops.recoveries import Recovery, recovery_record, relapse_record
from pabal.ops.template_library import template_record
from pabal.retry import Parked, Wait
from pabal.status.records import (
    GroupStatus,
    LagSample,
    PartitionStatus,
    ProcessStatus,
    SampleRow,
    sample_record,
    status_record,
)
from pabal.telemetry.meter import HistogramSeries, NumberSeries, Snapshot
from pabal.template import parse_template
from pabal.topics.spec import topics_for

NOW = datetime(2026, 1, 1, 12, 30, 59, 123456, tzinfo=UTC)
ID, OTHER_ID = uuid.UUID("f6c1e2a4-8d0b-5b8e-9c53-0d2b6a1f7e11"), uuid.UUID("0e2a1c34-5b6d-5f70-8a9b-1c2d3e4f5a6b")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
DOCUMENT = describe_topics(version="0")

SPARE = Delivery(
    id=ID,
    notification_id=OTHER_ID,
    tenant="shop",
    channel="webhook",
    address="https://example.com/",
    class_="bulk",
    accepted_at=NOW,
    expires_at=NOW + timedelta(days=1),
)
FULL = msgspec.structs.replace(
    SPARE,
    content=make_content(
        title="Hello",
        body="World",
        data={"order": 17},
        parts={
            "email": EmailContent(subject="s", text="t", html="<p>h</p>"),
            "webhook": WebhookContent(payload=[1, None]),
        },
    ),
    template=TemplateRef(name="shipped", hash="0" * 64, data={"order": 17}),
    order_key="order-17",
    send_at=NOW,
    tags=("a", "b"),
    attempt=3,
    rung=2,
    parks=1,
    first_failed_at=NOW,
    edit=1,
    provider="webhook",
    traceparent=TRACE,
    tracestate="rojo=1,congo=t61rcWkgMzE",
)
EVENT = DeliveryEvent(
    id=ID,
    kind="sent",
    delivery_id=ID,
    notification_id=OTHER_ID,
    tenant="shop",
    channel="webhook",
    address="https://example.com/",
    class_="bulk",
    attempt=1,
    at=NOW,
)
RECEIPT = Receipt(id=ID, provider="smtp", kind="bounced", at=NOW, delivery_id=OTHER_ID)
SUPPRESSION = Suppression(tenant="shop", channel="email", address="a@example.com", reason="manual", since=NOW)
AUDIT = AuditFact(id=ID, action="dead_letter.discarded", subject="pabal.dead.email/0@17", by="ana", at=NOW)
CLAIM = TopicClaim(topic="pabal.dead.email", token="t", plan="p", by="ana", host="h", since=NOW)
PASSED = PassedOver(
    group="pabal.worker.email.bulk",
    topic="pabal.deliveries.email.bulk",
    partition=3,
    from_=100,
    to=160,
    count=60,
    at=NOW,
)
SEEK = Seek(
    group="pabal.worker.email.bulk",
    topic="pabal.deliveries.email.bulk",
    partition=3,
    from_=100,
    to=160,
    at=NOW,
    by="Ada",
    reason="known lost",
)
BRAKE = BrakeState(state="braked", at=NOW, reason="30 of 40 records cannot be read")
RELEASED = BrakeState(state="released", at=NOW, reason="ana: looked", until=NOW)
FIGURES = Snapshot(
    numbers=(NumberSeries("pabal_accepted_total", ("email", "bulk"), 3),),
    histograms=(HistogramSeries("pabal_append_duration_seconds", (), (1, 0), 0.5),),
)
STATUS = ProcessStatus(
    instance="host-1",
    roles=("worker",),
    version="0.1.0",
    state="running",
    at=NOW,
    started_at=NOW,
    groups=(
        GroupStatus(
            group="pabal.worker.email.bulk",
            held="guard: every provider refuses",
            partitions=(PartitionStatus("pabal.deliveries.email.bulk", 0, 3, 7),),
        ),
    ),
    open=("email/smtp",),
)
ROW = SampleRow("g", "t", 0, 0, 5, 3, owner="o", age_seconds=1.5)
GROUP_MINUTE = GroupMinute(
    group="g", verdict="ok", lag=0, age_seconds=0.0, lost=0, in_per_second=1.0, out_per_second=1.0
)
PARKED = Parked(callee="webhook example.com", at=NOW)
RECOVERY = Recovery(channel="webhook", callee="webhook example.com", at=NOW)
TEMPLATE = parse_template("shipped", 'title = "Order {{ order }}"\n[email]\nsubject = "s"\n', path="t.toml")


def in_the_log(record: NewRecord) -> Record:
    return Record(
        topic=record.topic,
        partition=0,
        offset=5,
        timestamp=NOW.timestamp(),
        key=record.key,
        value=record.value,
        headers=record.headers,
    )


def dead(delivery: Delivery | None, *, origin: Record) -> NewRecord:
    return dead_record(
        origin, channel="email", delivery=delivery, error_class="exhausted", message="no\nmore", at=NOW, group="g"
    )


async def ledger_record(folder: Path) -> NewRecord:
    """What names the ledger, as it stands in a log."""
    broker = await SqliteBroker.open(folder / "log.db", clock=ManualClock(NOW))
    for spec in topics_for(["webhook"], partitions=1, replication=None):
        await broker.admin().create_topic(spec)
    await LedgerBinding(
        producer=broker.producer(), reader=broker.reader(), admin=broker.admin(), clock=ManualClock(NOW)
    ).adopt(ID)
    [partition] = await broker.admin().watermarks("pabal.ops")
    [[found]] = [batch async for batch in broker.reader().read(partition)]
    await broker.close()
    return NewRecord(topic=found.topic, key=found.key, value=found.value, headers=found.headers)


async def examples(folder: Path) -> dict[str, Sequence[NewRecord]]:
    """Records of every kind of message, by its name: at least one with as little as possible, and one with all."""
    wait = Wait(due=NOW, release_at=NOW)
    origin = in_the_log(delivery_record(FULL))
    return {
        "delivery": [delivery_record(SPARE), delivery_record(FULL)],
        "delayedDelivery": [
            delay_record(SPARE, topic="pabal.delay.bulk.120", wait=wait),
            delay_record(FULL, topic="pabal.delay.bulk.120", wait=msgspec.structs.replace(wait, parked=PARKED)),
        ],
        "deadLetter": [dead(SPARE, origin=origin), dead(FULL, origin=origin), cut_record(dead(None, origin=origin))],
        "deliveryEvent": [
            event_record(EVENT),
            event_record(msgspec.structs.replace(EVENT, at=NOW.replace(microsecond=0), traceparent=TRACE)),
            *(event_record(msgspec.structs.replace(EVENT, kind=kind, due=NOW)) for kind in get_args(EventKind)),
        ],
        "receipt": [
            receipt_record(RECEIPT),
            receipt_record(msgspec.structs.replace(RECEIPT, delivery_id=None, provider_id="p-1")),
            *(receipt_record(msgspec.structs.replace(RECEIPT, kind=kind)) for kind in get_args(ReceiptKind)),
        ],
        "suppression": [suppression_record(SUPPRESSION)],
        "suppressionLifted": [lifting_record(b"shop/email/a@example.com")],
        "auditFact": [audit_record(AUDIT), audit_record(msgspec.structs.replace(AUDIT, detail={"plan": "p"}))],
        "template": [template_record(TEMPLATE)],
        "ledger": [await ledger_record(folder)],
        "seek": [seek_record(SEEK)],
        "passedOver": [passed_record(PASSED)],
        "passedOverDecided": [decided_record(PASSED.group, PASSED.topic_partition)],
        "brake": [brake_record("email", "bulk", BRAKE), brake_record("email", "bulk", RELEASED)],
        "recorderBrake": [brake_record(RECORDER, EVENTS_TOPIC, BRAKE)],
        "recovery": [recovery_record(RECOVERY)],
        "recoveryTakenBack": [relapse_record(recovery_record(RECOVERY).key or b"")],
        "redriveClaim": [claim_record(CLAIM)],
        "redriveClaimEnded": [release_record(CLAIM.letters)],
        "processStatus": [status_record(STATUS), status_record(msgspec.structs.replace(STATUS, figures=FIGURES))],
        "lagSample": [
            sample_record(LagSample(instance="m", at=NOW, is_whole=True)),
            sample_record(LagSample(instance="m", at=NOW, is_whole=False, rows=(ROW,), members={"g": 1})),
        ],
        "minute": [
            history_record(Minute(at=NOW, seconds=60.0, processes=1)),
            history_record(Minute(at=NOW, seconds=60.0, processes=1, figures=FIGURES, groups=(GROUP_MINUTE,))),
        ],
    }


async def test_every_kind_of_message_has_the_headers_and_the_value_that_are_described(tmp_path: Path) -> None:
    described = DOCUMENT["components"]["messages"]
    made = await examples(tmp_path)

    assert made.keys() == described.keys()
    for name, records in made.items():
        payload = {**described[name]["payload"], "components": DOCUMENT["components"]}
        for record in records:
            headers = {header: value.decode() for header, value in record.headers}
            is_raw = name == "deadLetter" and "x-cut-from-bytes" in headers
            assert headers.keys() <= described[name]["headers"]["properties"].keys(), name
            jsonschema.validate(headers, described[name]["headers"])
            if not is_raw:
                jsonschema.validate(None if record.value is None else msgspec.json.decode(record.value), payload)


async def test_every_message_stands_on_the_topic_that_names_it(tmp_path: Path) -> None:
    topic_of = {message.name: _form(topic.address) for topic in TOPICS for message in topic.messages}

    for name, records in (await examples(tmp_path)).items():
        for record in records:
            assert topic_of[name].fullmatch(record.topic), name


def test_every_schema_that_the_code_names_is_a_record_of_the_contracts() -> None:
    source = Path(pabal.__file__).parent
    named = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r'_SCHEMA(?:: Final)? = b"([^"]+)"', path.read_text(encoding="utf-8"))
    }

    assert named == RECORDS.keys()


def test_every_topic_that_is_made_is_described_once() -> None:
    names = [spec.name for spec in topics_for(["email", "webhook"], partitions=1, replication=None)]

    for name in names:
        assert len([topic for topic in TOPICS if _form(topic.address).fullmatch(name)]) == 1, name
    for topic in TOPICS:
        found = [match for name in names if (match := _form(topic.address).fullmatch(name))]
        for parameter, described in topic.parameters.items():
            words = {match[parameter] for match in found}
            assert not described.words or words == set(described.words)


@pytest.mark.parametrize("schema", RECORDS)
def test_a_records_schema_stands_alone(schema: str) -> None:
    described: Json = describe_record(RECORDS[schema])

    jsonschema.Draft202012Validator.check_schema(described)
    assert re.findall(r'"\$ref": "(?!#/\$defs/)', msgspec.json.encode(described).decode()) == []


def _form(address: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^.]+)", re.escape(address)))
