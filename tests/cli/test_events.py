"""`pabal events`, on both logs."""

import asyncio
import json
import os
import sys
import uuid
from asyncio.subprocess import PIPE, Process
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from pabal.broker.port import NewRecord, Record
from pabal.cli.events import Shown, Wanted, read_event, read_since, render_line
from pabal.compose.parts import open_parts
from pabal.compose.topics import create_topics
from pabal.config import Settings
from pabal.errors import ConfigError
from pabal.notification import DeliveryEvent, EventKind, Receipt
from tests.events.log import a_receipt, an_event, record_of

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "kafka":
        return f"kafka://{request.getfixturevalue('kafka_bootstrap')}"
    return f"sqlite:{tmp_path / 'log.db'}"


async def append(url: str, *records: NewRecord) -> None:
    async with open_parts(Settings(), log_url=url, data=Path()) as parts:
        await create_topics(parts, partitions=2, replication=None)
        await parts.broker.producer().append(records)


async def start(url: str, *arguments: str) -> Process:
    command = [sys.executable, "-m", "pabal", "events", "--log", url, *arguments]
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)


async def show(url: str, *arguments: str) -> tuple[list[str], str]:
    """The lines, and what went to standard error."""
    process = await start(url, "--once", *arguments)
    printed, complaints = await process.communicate()
    assert process.returncode == 0, complaints
    return printed.decode().splitlines(), complaints.decode()


def in_the_log(record: NewRecord) -> Record:
    return Record(
        topic=record.topic, partition=0, offset=5, timestamp=0.0, key=b"k", value=record.value, headers=record.headers
    )


def at(event: DeliveryEvent, seconds: float) -> DeliveryEvent:
    return msgspec.structs.replace(event, at=NOW + timedelta(seconds=seconds))


async def test_events_of_all_partitions_are_shown_by_time_as_cloudevents_in_json(log_url: str) -> None:
    tenant = uuid.uuid4().hex
    told = [msgspec.structs.replace(at(an_event(), seconds), tenant=tenant) for seconds in (3, 1, 4, 0, 2)]
    await append(log_url, *map(record_of, told))

    lines, _ = await show(log_url, "--json", "--tenant", tenant)

    shown = [json.loads(line) for line in lines]
    assert [each["id"] for each in shown] == [str(event.id) for event in sorted(told, key=lambda event: event.at)]
    assert shown[0]["specversion"] == "1.0"
    assert shown[0]["type"] == "pabal.delivery.sent"
    assert shown[0]["data"] == msgspec.json.decode(msgspec.json.encode(min(told, key=lambda event: event.at)))


async def test_what_happens_while_it_runs_is_shown_until_it_is_told_to_stop(log_url: str) -> None:
    first, second = an_event(channel="webhook"), an_event("deferred", channel="email")
    await append(log_url, record_of(first))
    process = await start(log_url)
    assert process.stdout is not None

    async def line_with(event: DeliveryEvent) -> str:
        assert process.stdout is not None
        while str(event.delivery_id) not in (line := (await process.stdout.readline()).decode()):
            assert line, "it ended"
        return line

    async with asyncio.timeout(50):
        earlier = await line_with(first)
        await append(log_url, record_of(second))
        later = await line_with(second)
        process.terminate()
        await process.communicate()

    assert "sent" in earlier
    assert "deferred" in later
    assert process.returncode == 0


async def test_it_ends_when_nobody_reads_it_any_more_though_nothing_happens(tmp_path: Path) -> None:
    url = f"sqlite:{tmp_path / 'log.db'}"
    await append(url, record_of(an_event()))
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "pabal", "events", "--log", url]
    process = await asyncio.create_subprocess_exec(*command, stdout=writing, stderr=PIPE)
    os.close(writing)
    line = await asyncio.to_thread(os.read, reading, 4096)
    os.close(reading)  # As `head -1` does.

    _, complaints = await process.communicate()

    assert line
    assert (process.returncode, complaints) == (0, b"")


async def test_a_fact_that_was_appended_twice_is_shown_once(tmp_path: Path) -> None:
    url, event = f"sqlite:{tmp_path / 'log.db'}", an_event()
    await append(url, record_of(event), record_of(event), record_of(at(event, 1)))

    lines, _ = await show(url)

    assert len(lines) == 1


def test_what_was_shown_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shown, "_MOST", 2)
    shown = Shown()
    first, second, third = (read_event(in_the_log(record_of(an_event()))) for _ in range(3))
    assert first is not None
    assert second is not None
    assert third is not None

    answers = [shown.is_new(event) for event in (first, first, second, third, third, first)]

    assert answers == [True, False, True, True, False, True]


async def test_what_is_no_event_is_named_and_passed_over(tmp_path: Path) -> None:
    url, event = f"sqlite:{tmp_path / 'log.db'}", an_event()
    await append(url, NewRecord(topic="pabal.events", key=b"k", value=b"\xff"), record_of(event))

    lines, complaints = await show(url)

    assert [str(event.delivery_id) in line for line in lines] == [True]
    assert "cannot be read (1 so far): not an event" in complaints


def of(kind: EventKind = "sent", **changes: object) -> DeliveryEvent:
    return msgspec.structs.replace(an_event(kind), **changes)


ID = uuid.UUID("f6c1e2a4-8d0b-5b8e-9c53-0d2b6a1f7e11")


@pytest.mark.parametrize(
    ("wanted", "fact", "is_taken"),
    [
        (Wanted(), of(), True),
        (Wanted(channels=("email", "webhook")), of(channel="webhook"), True),
        (Wanted(channels=("email",)), of(channel="webhook"), False),
        (Wanted(kinds=("sent",)), of("sent"), True),
        (Wanted(kinds=("sent",)), of("deferred"), False),
        (Wanted(kinds=("bounced",)), a_receipt(ID), True),
        (Wanted(channels=("email",)), a_receipt(ID), False),
        (Wanted(tenants=("shop",)), of(tenant="bank"), False),
        (Wanted(deliveries=(str(ID),)), of(delivery_id=ID), True),
        (Wanted(deliveries=(str(ID),)), of(), False),
        (Wanted(deliveries=(str(ID),)), a_receipt(ID), True),
        (Wanted(kinds=("sent",), channels=("email",)), of("sent", channel="webhook"), False),
    ],
)
def test_filters_must_all_hold(wanted: Wanted, fact: DeliveryEvent | Receipt, is_taken: bool) -> None:
    event = read_event(in_the_log(record_of(fact)))

    assert event is not None
    assert wanted.takes(event) == is_taken


def test_a_kind_of_a_newer_version_is_shown_too() -> None:
    record = in_the_log(record_of(an_event()))
    headers = [(name, b"pabal.delivery.teleported" if name == "ce_type" else value) for name, value in record.headers]

    event = read_event(msgspec.structs.replace(record, headers=tuple(headers)))

    assert event is not None
    assert "teleported" in render_line(event)


def test_what_others_said_cannot_steer_the_terminal() -> None:
    event = read_event(in_the_log(record_of(of(detail="\x1b[2J\r\nforged  line\u202e"))))

    assert event is not None
    line = render_line(event)
    assert line.isprintable()
    assert "forged" in line


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("30s", NOW - timedelta(seconds=30)),
        ("5m", NOW - timedelta(minutes=5)),
        ("2h", NOW - timedelta(hours=2)),
        ("1d", NOW - timedelta(days=1)),
        ("2026-01-31T11:00+01:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T11:00", datetime(2026, 1, 31, 11, tzinfo=UTC)),
    ],
)
def test_since_is_a_while_ago_or_an_instant(text: str, instant: datetime) -> None:
    assert read_since(text, now=NOW) == instant


def test_since_that_is_neither_is_refused_with_what_would_do() -> None:
    with pytest.raises(ConfigError, match="yesterday: write 30s"):
        read_since("yesterday", now=NOW)
