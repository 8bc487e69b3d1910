"""No record ends a reader, loses another's, or opens a gate: every reader of every topic, on both logs.

Each reader is given good records among mutated ones of each schema that stands in its topics: so many as
PABAL_ATTACK_RECORDS says. Good ones must come out as if they had been alone; of mutated ones none may vanish.
"""

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Final
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from servers.kafka import KafkaCluster

from pabal.audit import read_audit
from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.port import Broker, NewRecord, Record
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.channels.registry import installed_channels
from pabal.channels.suppression import suppression_key
from pabal.cli.events import read_event as read_told
from pabal.cli.events import render_json, render_line
from pabal.cli.letters import open_dead_letters
from pabal.clock import SystemClock
from pabal.codec import (
    delay_record,
    delivery_record,
    event_record,
    read_delivery,
    read_event,
    read_receipt,
    read_suppression,
    read_wait,
    suppression_record,
)
from pabal.config import ChannelSettings, Settings, WorkerSettings
from pabal.contracts.records import RECORDS
from pabal.delayline.delayline import DelayLine
from pabal.dlq.letters.letter import read_letter
from pabal.dlq.letters.marks import Marks
from pabal.dlq.letters.selection import Selection
from pabal.dlq.redrive.book import Book
from pabal.dlq.redrive.claim import Claims
from pabal.dlq.redrive.host import RedriveHost
from pabal.dlq.redrive.status import list_redrives
from pabal.dlq.redrive.surroundings import Surroundings
from pabal.errors import DecodeError
from pabal.groups import RECORDER_GROUP, groups_for, recorded_topics
from pabal.guard import GuardSettings
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger
from pabal.monitor.history import read_minute
from pabal.monitor.monitor import Monitor
from pabal.monitor.watching import Watching
from pabal.notification import (
    CLASSES,
    EVENTS_TOPIC,
    HISTORY_TOPIC,
    OPS_TOPIC,
    STATUS_TOPIC,
    SUPPRESSIONS_TOPIC,
    Delivery,
    DeliveryEvent,
    Suppression,
    TemplateRef,
    delay_topic,
    deliveries_topic,
    event_id,
)
from pabal.ops.brakes import Brakes, read_brake
from pabal.ops.follower import OpsFollower
from pabal.ops.ledger_binding import LedgerBinding
from pabal.ops.ledger_identity import Identity, LedgerRecord
from pabal.ops.recoveries import is_about_recovery, read_recovery
from pabal.ops.template_library import TemplateLibrary, template_record
from pabal.policy import DEFAULT_CLASSES
from pabal.recorder.reading import read_fact
from pabal.recorder.recorder import Recorder
from pabal.rendering import RenderingProcess
from pabal.retry import Wait
from pabal.status.records import ProcessStatus, read_status, status_record
from pabal.store.projection import gather
from pabal.store.sql import SqlStore
from pabal.suppressions import GateFollower, SuppressionList, Suppressor
from pabal.template import Template, parse_template
from pabal.topics.spec import topics_for
from pabal.worker.carrier import Carrier
from pabal.worker.worker import Worker
from tests.attack.mutated import BROKEN, mutated, topics_of
from tests.conftest import skip_without_kafka
from tests.recorder.lab import until
from tests.waiting import eventually
from tests.worker.lab import Provider, a_delivery

SIZE: Final = int(os.environ.get("PABAL_ATTACK_RECORDS", "40"))
"""Mutated records of each schema that each reader is given."""

SEED: Final = int(os.environ.get("PABAL_ATTACK_SEED", "1"))
SECONDS: Final = 20.0 + SIZE / 20
SOME: Final = 6
CLOCK: Final = SystemClock()
NEVER_BRAKED: Final = GuardSettings(brake_records=10**9)
CHANNEL: Final = ("webhook",)


def as_read(record: NewRecord, *, offset: int = 7) -> Record:
    return Record(
        topic=record.topic,
        partition=0,
        offset=offset,
        timestamp=CLOCK.now().timestamp(),
        key=record.key,
        value=record.value,
        headers=record.headers,
    )


@contextlib.contextmanager
def unless_undecodable() -> Iterator[None]:
    with contextlib.suppress(DecodeError):
        yield


@pytest.mark.timeout(SECONDS * 4)
@pytest.mark.parametrize("schema", RECORDS)
@settings(max_examples=max(SIZE * 3, 100), deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 30))
def test_whatever_the_bytes_reading_raises_nothing_but_that_they_cannot_be_read(
    schema: str, random: Random, number: int
) -> None:
    topics = topics_of(schema)
    record = as_read(mutated(schema, random, topic=topics[number % len(topics)]))

    for read in (read_delivery, read_event, read_receipt, read_suppression, read_wait, read_audit, read_brake):
        with unless_undecodable():
            read(record)
    with unless_undecodable():
        if is_about_recovery(record):
            read_recovery(record)
    with unless_undecodable():
        gather([read_fact(record)])
    with unless_undecodable():
        read_status(record)
    with unless_undecodable():
        read_minute(record)
    Watching(clock=CLOCK).note_record(record, is_replayed=True)
    letter = read_letter(record)
    Claims().take(record)
    Book().read(record)
    with unless_undecodable():
        Marks().take(read_audit(record))
    Identity().take([record])
    assert letter.record is record
    if (told := read_told(record)) is not None:
        assert render_line(told).isprintable()
        render_json(told)


@pytest.mark.timeout(SECONDS * 4)
@pytest.mark.parametrize("schema", RECORDS)
@settings(max_examples=max(SIZE * 2, 60), deadline=None)
@given(st.randoms(use_true_random=False))
def test_what_is_broken_is_never_taken_for_a_record(schema: str, random: Random) -> None:
    record = as_read(mutated(schema, random, topic=topics_of(schema)[0], changes=BROKEN))

    if schema == "delivery/1":
        with pytest.raises(DecodeError):
            read_delivery(record)
    if schema in ("delivery-event/1", "receipt/1"):
        with pytest.raises(DecodeError):
            read_fact(record)
    if schema == "ledger/1":
        identity = Identity()
        identity.take([record])
        assert identity.recorded.holds is None
    if schema == "audit/1":
        with pytest.raises(DecodeError):
            read_audit(record)


class World:
    """A log with Pabal's topics, and the folder of everything else."""

    def __init__(self, broker: Broker, folder: Path) -> None:
        self.broker = broker
        self.folder = folder
        self.random = Random(SEED)

    async def append(self, records: Iterable[NewRecord]) -> None:
        producer, batch = self.broker.producer(deadline_seconds=30.0), []
        for record in records:
            batch.append(record)
            if len(batch) >= 50:
                await producer.append(batch)
                batch = []
        await producer.append(batch)
        await producer.close()

    def mixed(self, good: Sequence[NewRecord], *, topics: Sequence[str], schemas: Sequence[str]) -> list[NewRecord]:
        """Good records among mutated ones, in any order that keeps that of the good ones."""
        bad = [
            mutated(schema, self.random, topic=self.random.choice(topics)) for schema in schemas for _ in range(SIZE)
        ]
        left, mixture = list(good), []
        for each in bad:
            if left and self.random.random() < len(good) * 2 / max(len(bad), 1):
                mixture.append(left.pop(0))
            mixture.append(each)
        return [*mixture, *left]

    async def read(self, topics: Iterable[str]) -> list[Record]:
        admin, reader = self.broker.admin(), self.broker.reader()
        found = [
            record
            for topic in topics
            for partition in await admin.watermarks(topic)
            async for batch in reader.read(partition)
            for record in batch
        ]
        await admin.close()
        await reader.close()
        return found

    async def uncommitted(self, group: str, topics: Sequence[str]) -> int:
        admin = self.broker.admin()
        committed = await admin.committed(group, topics)
        marks = [pair for topic in topics for pair in (await admin.watermarks(topic)).items()]
        await admin.close()
        return sum(mark.high - committed.get(partition, mark.low) for partition, mark in marks)


def delivery(number: int, **changes: object) -> Delivery:
    return a_delivery(number, id=uuid4(), notification_id=uuid4(), **changes)


def event_of(delivery: Delivery) -> DeliveryEvent:
    return DeliveryEvent(
        id=event_id(delivery.id, attempt=1, kind="sent"),
        kind="sent",
        delivery_id=delivery.id,
        notification_id=delivery.notification_id,
        tenant=delivery.tenant,
        channel=delivery.channel,
        address=delivery.address,
        class_=delivery.class_,
        attempt=1,
        at=CLOCK.now(),
    )


async def worker_sends_the_good_ones(world: World) -> None:
    mark = f"https://good-{uuid4().hex}.example/"
    good = [delivery(number, address=mark, class_=class_) for class_ in CLASSES for number in range(SOME)]
    topics = [deliveries_topic("webhook", class_) for class_ in CLASSES]
    await world.append(world.mixed([delivery_record(each) for each in good], topics=topics, schemas=list(RECORDS)))
    await world.append(
        mutated(schema, world.random, topic=OPS_TOPIC) for schema in RECORDS if schema != "ledger/1" for _ in range(9)
    )
    provider, ledger = Provider(), await SqliteLedger.open(world.folder / "ledger.db", clock=CLOCK, worker="w")
    library = TemplateLibrary((), reader=world.broker.reader(), admin=world.broker.admin(), apart=RenderingProcess())
    worker = Worker(
        broker=world.broker,
        ops=OpsFollower(world.broker.reader()),
        ledger=ledger,
        carriers={"webhook": Carrier(channel=installed_channels()["webhook"], provider=provider, provider_name="far")},
        channels={"webhook": ChannelSettings(provider="far", concurrency=16)},
        classes=DEFAULT_CLASSES,
        settings=WorkerSettings(drain_seconds=5.0),
        find_template=library.render,
        clock=CLOCK,
        guard=NEVER_BRAKED,
    )
    async with running(worker.run):
        for topic, class_ in zip(topics, CLASSES, strict=True):
            group = f"pabal.worker.webhook.{class_}"
            await until(lambda group=group, topic=topic: _all(world, group, topic), within_seconds=SECONDS)  # type: ignore[misc]
    await ledger.close()

    assert sorted(to for _, to in provider.sent if to == mark) == [mark] * len(good)
    # Of each record that is not good there is a dead letter, or an event says what became of its delivery.
    told = await world.read(["pabal.dead.unknown", "pabal.dead.webhook", EVENTS_TOPIC, *_delay_topics()])
    origins = {(each.header("x-original-topic"), each.header("x-original-offset")) for each in told}
    known = {part for each in told for part in (each.key, _delivery_named_by(each))}
    for record in await world.read(topics):
        if _name_of(record) not in known:
            assert (record.topic.encode(), str(record.offset).encode()) in origins


async def delay_line_releases_the_good_ones(world: World) -> None:
    good = [delivery(number) for number in range(SOME)]
    now = CLOCK.now()
    waiting = [
        delay_record(each, topic=delay_topic(each.class_, 5), wait=Wait(due=now, release_at=now)) for each in good
    ]
    topics = [delay_topic(class_, seconds) for class_ in CLASSES for seconds in (5, 30)]
    await world.append(world.mixed(waiting, topics=topics, schemas=["delivery/1", "audit/1"]))
    ops = OpsFollower(world.broker.reader())
    line = DelayLine(broker=world.broker, ops=ops, channels=CHANNEL, clock=CLOCK)

    async with running(line.run):

        async def all_are_released() -> bool:
            released = await world.read([deliveries_topic("webhook", class_) for class_ in CLASSES])
            return {each.id for each in good} <= {each.id for each in map(_delivery_in, released) if each is not None}

        await until(all_are_released, within_seconds=SECONDS)


async def recorder_records_the_good_ones(world: World) -> None:
    good = [delivery(number) for number in range(SOME)]
    told = [record for each in good for record in (delivery_record(each), event_record(event_of(each)))]
    topics = recorded_topics(CHANNEL)
    await world.append(world.mixed(told, topics=topics, schemas=list(RECORDS)))
    store = SqlStore(f"sqlite:{world.folder / 'store.db'}", clock=CLOCK)
    producer = world.broker.producer()
    recorder = Recorder(
        broker=world.broker,
        store=store,
        channels=CHANNEL,
        retention=timedelta(days=30),
        clock=CLOCK,
        follow=Suppressor(store=store, producer=producer).follow,
        guard=NEVER_BRAKED,
    )

    async def all_count() -> bool:
        return await world.uncommitted(RECORDER_GROUP, topics) == 0

    async with running(recorder.run):
        await until(all_count, within_seconds=SECONDS)
    views = [await store.delivery(each.id, tenant=each.tenant) for each in good]
    aside = {(each.topic, each.partition, each.offset) for each in await store.aside(limit=1_000_000)}
    await store.close()
    await producer.close()

    assert [view.status for view in views if view is not None] == ["sent"] * len(good)
    unreadable = {(each.topic, each.partition, each.offset) for each in await world.read(topics) if not _is_fact(each)}
    assert unreadable <= aside


async def gate_is_as_closed_as_before(world: World) -> None:
    good = [_suppression(f"https://{uuid4().hex}.example/") for _ in range(SOME)]
    covered = [_suppression(f"https://{uuid4().hex}.example/") for _ in range(SOME)]
    records = world.mixed(
        [suppression_record(each) for each in (*good, *covered)], topics=[SUPPRESSIONS_TOPIC], schemas=list(RECORDS)
    )
    broken = [
        mutated("suppression/1", world.random, topic=SUPPRESSIONS_TOPIC, changes=BROKEN, key=_key_of(each))
        for each in covered
    ]
    await world.append([*records, *broken])
    ledger = await SqliteLedger.open(world.folder / "gate.db", clock=CLOCK, worker="g")
    gate = GateFollower(reader=world.broker.reader(), ledger=ledger, clock=CLOCK)
    listed = SuppressionList(reader=world.broker.reader(), clock=CLOCK)

    await gate.follow()
    refused = set(await ledger.suppressed())
    await ledger.close()

    assert {_key_of(each) for each in (*good, *covered)} <= refused
    for each in (*good, *covered):
        assert await listed.find(_key_of(each)) is not None


async def ops_say_what_they_said_before(world: World) -> None:
    template = parse_template("hello", 'title = "Hello {{ name }}"', path="hello.toml")
    ours = LedgerRecord(id=uuid4(), recorded_at=CLOCK.now())
    identity = LedgerBinding(
        producer=world.broker.producer(), reader=world.broker.reader(), admin=world.broker.admin(), clock=CLOCK
    )
    await identity.adopt(ours.id)
    schemas = [schema for schema in RECORDS if schema != "ledger/1"]
    await world.append(world.mixed([template_record(template)], topics=[OPS_TOPIC], schemas=schemas))
    await world.append(mutated("ledger/1", world.random, topic=OPS_TOPIC, changes=BROKEN) for _ in range(SIZE))
    await world.append(_bent_template(template, world.random) for _ in range(SIZE))
    library = TemplateLibrary((), reader=world.broker.reader(), admin=world.broker.admin(), apart=RenderingProcess())
    brakes, ops = Brakes(), OpsFollower(world.broker.reader())
    ops.attend(brakes)

    rendered = await library.render(TemplateRef(name="hello", hash=template.hash, data={"name": "Ana"}))
    await identity.check(ours.id, place="here", may_be_first=False)
    await ops.catch_up()

    assert rendered.title == "Hello Ana"
    assert library.unreadable.count >= SIZE
    assert brakes.unreadable.count > 0


class CountingHost(RedriveHost):
    """Counts how often it took in what is new and acted on it."""

    looked = 0

    def _act(self, claims: Claims, book: Book) -> None:
        super()._act(claims, book)
        self.looked += 1


async def redrives_go_on(world: World) -> None:
    await world.append(
        world.mixed([], topics=["pabal.audit", EVENTS_TOPIC, "pabal.dead.webhook"], schemas=list(RECORDS))
    )
    await world.append(mutated("audit/1", world.random, topic="pabal.audit", changes=BROKEN) for _ in range(SIZE))
    async with open_dead_letters(world.broker, settings=Settings(), clock=CLOCK) as desk:
        before = await list_redrives(desk.tails, clock=desk.clock, since=None)
        host = CountingHost(desk, look_seconds=0.01)
        following = asyncio.create_task(host.follow())
        await eventually(lambda: host.looked > 1 or following.done(), within_seconds=SECONDS)
        is_following = not following.done()
        following.cancel()
        await host.close()
        surroundings = await Surroundings.read(
            desk.letters, Selection(), tails=desk.tails, clock=desk.clock, ends=await desk.letters.ends(Selection())
        )
        _, total = await desk.letters.newest(Selection(), states=(), limit=9)

    assert is_following
    assert before is not None
    assert surroundings.marks.unreadable.count > 0
    assert total > 0


async def monitor_watches_on(world: World) -> None:
    good = [a_status(f"good-{number}") for number in range(SOME)]
    await world.append(
        world.mixed([status_record(each) for each in good], topics=[STATUS_TOPIC], schemas=list(RECORDS))
    )
    await world.append(mutated(schema, world.random, topic=HISTORY_TOPIC) for schema in RECORDS for _ in range(9))
    monitor = Monitor(broker=world.broker, groups=groups_for(CHANNEL), clock=CLOCK, instance="m")
    stopping = asyncio.Event()
    running = asyncio.create_task(monitor.run(stopping))

    await eventually(lambda: bool(monitor.groups) or running.done(), within_seconds=SECONDS)
    later = a_status("later")
    await world.append([mutated("status/1", world.random, topic=STATUS_TOPIC) for _ in range(9)])
    await world.append([status_record(later)])
    await eventually(lambda: running.done() or "later" in known_to(monitor), within_seconds=SECONDS)
    known = known_to(monitor)
    stopping.set()
    await running

    assert {each.instance for each in (*good, later)} <= known


def known_to(monitor: Monitor) -> set[str]:
    """The instances that the active monitor knows."""
    watching = monitor.watching
    return set() if watching is None else {each.status.instance for each in watching.fleet.processes()}


def a_status(instance: str) -> ProcessStatus:
    now = CLOCK.now()
    return ProcessStatus(instance=instance, roles=("worker",), version="1", state="running", at=now, started_at=now)


READERS: Final[Mapping[str, Callable[[World], Awaitable[None]]]] = {
    each.__name__: each
    for each in (
        ops_say_what_they_said_before,
        gate_is_as_closed_as_before,
        delay_line_releases_the_good_ones,
        worker_sends_the_good_ones,
        recorder_records_the_good_ones,
        redrives_go_on,
        monitor_watches_on,
    )
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=CLOCK)
    await _create_topics(broker)
    yield World(broker, tmp_path)
    await broker.close()


@pytest.mark.timeout(SECONDS * 4)
@pytest.mark.parametrize("reader", READERS)
async def test_on_the_embedded_log(world: World, reader: str) -> None:
    await READERS[reader](world)


@pytest.mark.kafka
@pytest.mark.timeout(SECONDS * 12)
async def test_on_kafka(tmp_path: Path, own_kafka: str) -> None:
    broker = await KafkaBroker.open(own_kafka)
    try:
        await _create_topics(broker)
        for read in READERS.values():
            await read(World(broker, tmp_path))
    finally:
        await broker.close()


@pytest.fixture
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One of this module's own: what is written here, other tests could not read."""
    from servers.kafka import KafkaMissing, missing

    if reason := missing():
        skip_without_kafka(reason)
    try:
        cluster = KafkaCluster.start(tmp_path_factory.mktemp("kafka"))
    except KafkaMissing as error:
        skip_without_kafka(str(error))
    with cluster:
        yield cluster.bootstrap


@pytest.mark.timeout(SECONDS * 4)
async def test_the_commands_that_read_the_log_and_the_store_end_well(world: World) -> None:
    await recorder_records_the_good_ones(world)
    topics = ["pabal.audit", OPS_TOPIC, "pabal.dead.webhook", "pabal.dead.unknown"]
    await world.append(world.mixed([], topics=topics, schemas=list(RECORDS)))
    commands = [
        ("events", "--once"),
        ("events", "--once", "--json"),
        ("dlq", "list"),
        ("dlq", "list", "--json"),
        ("dlq", "stats"),
        ("dlq", "status"),
        ("brake", "list"),
        ("report", "reprocessing"),
        ("store", "set-aside", "--bytes"),
    ]
    folder = str(world.folder)
    for command in commands:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pabal", *command, "--data", folder), stdout=PIPE, stderr=PIPE
        )
        _, complaints = await process.communicate()
        assert (command, process.returncode, b"Traceback" in complaints) == (command, 0, False), complaints


@contextlib.asynccontextmanager
async def running(role: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[None]:
    """A role that runs until the end; that it ended before fails."""
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:

        async def run() -> None:
            await role(stopping)
            assert stopping.is_set(), f"{role} ended"

        group.create_task(run())
        try:
            yield
        finally:
            stopping.set()


async def _create_topics(broker: Broker) -> None:
    admin = broker.admin()
    for spec in topics_for(("email", "webhook"), partitions=1, replication=None):
        await admin.create_topic(spec)
    await admin.close()


async def _all(world: World, group: str, topic: str) -> bool:
    return await world.uncommitted(group, [topic]) == 0


def _delay_topics() -> list[str]:
    return [topic for topic in topics_of("delivery/1") if ".delay." in topic]


def _delivery_in(record: Record) -> Delivery | None:
    try:
        return read_delivery(record)
    except DecodeError:
        return None


def _delivery_named_by(record: Record) -> bytes | None:
    found = _delivery_in(record)
    return found.id.hex.encode() if found else None


def _name_of(record: Record) -> bytes | None:
    found = _delivery_in(record)
    return found.id.hex.encode() if found else b"none of ours"


def _is_fact(record: Record) -> bool:
    try:
        read_fact(record)
    except DecodeError:
        return False
    return True


def _suppression(address: str) -> Suppression:
    return Suppression(tenant="shop", channel="webhook", address=address, reason="complained", since=CLOCK.now())


def _key_of(suppression: Suppression) -> bytes:
    return suppression_key(tenant=suppression.tenant, channel=suppression.channel, address=suppression.address)


def _bent_template(template: Template, random: Random) -> NewRecord:
    """Another source, cut or whole, under the key of a template that was accepted."""
    record = template_record(template)
    return mutated("template/1", random, topic=OPS_TOPIC, key=record.key)
