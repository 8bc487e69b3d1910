"""What Pabal has stored, written down: every kind of record, a log, a ledger and a store, and what they mean.

`python -m tests.contracts.written FOLDER` has the code at hand write all of it and note how it reads it back itself.
`test_written_before.py` lets later code read the same bytes. `written_before/README.md` tells how a folder is made.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from pabal.audit import read_audit
from pabal.broker.port import Headers, NewRecord, Record, TopicPartition
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import ManualClock
from pabal.codec import read_delivery, read_event, read_receipt, read_suppression, read_wait
from pabal.dlq.letters.letter import read_letter
from pabal.dlq.redrive.claim import Claims, TenantLetters
from pabal.ledger.protocol import Claim, Finish, Source
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger
from pabal.notification import EVENTS_TOPIC, Suppression
from pabal.offsets.passed import read_passed
from pabal.offsets.seeks import read_seek
from pabal.ops.brakes import read_brake
from pabal.ops.ledger_identity import Identity
from pabal.ops.recoveries import read_recovery
from pabal.outcome import (
    Accepted,
    Cancelled,
    DeadLetter,
    Deferred,
    Done,
    Expired,
    Misconfigured,
    Outcome,
    Park,
    Refused,
    Rejected,
    RetryAt,
    Suppressed,
    Unknown,
    Verdict,
)
from pabal.store.port import DeadLettered, DeliveryFilter, SetAside, StoredFact
from pabal.store.sql import SqlStore
from pabal.template import read_template
from pabal.topics.spec import topics_for
from tests.contracts.test_topics import EVENT, FULL, ID, NOW, OTHER_ID, RECEIPT, SPARE, SUPPRESSION, examples

Json = dict[str, Any]

GROUP: Final = "somebody's group"
TENANT: Final = "shop"
LATER: Final = NOW + timedelta(hours=1)

OUTCOMES: Final[tuple[Outcome, ...]] = (
    Accepted(provider_id="p-1", response="250 ok"),
    Deferred(reason="busy", retry_after_seconds=2.5, response="450 busy", address_only=True),
    Rejected(reason="no such mailbox", response="550 no"),
    Misconfigured(reason="wrong password", response="535 no", tenant_only=True),
    Unknown(reason="no answer"),
)
VERDICTS: Final[tuple[Verdict, ...]] = (
    Done(),
    RetryAt(due=LATER, rung=2),
    Park(due=LATER, reason="refused", callee="webhook example.com"),
    DeadLetter(error_class="exhausted", message="no more"),
    Expired(),
    Suppressed(),
    Cancelled(),
    Refused(reason="no such mailbox"),
)


def plain(value: object) -> Any:
    """A value as JSON that names every field as it is stored, and the tag of each tagged struct."""
    match value:
        case msgspec.Struct():
            fields = {each.encode_name: plain(getattr(value, each.name)) for each in msgspec.structs.fields(value)}
            config = value.__struct_config__
            return fields if config.tag is None else {str(config.tag_field): config.tag, **fields}
        case Mapping():
            return {str(key): plain(each) for key, each in value.items()}
        case bytes():
            return base64.b64encode(value).decode()
        case list() | tuple() | set() | frozenset():
            return [plain(each) for each in value]
        case None | str() | int() | float():
            return value
        case _:
            return str(value)


# -- records


def _claim_in(record: Record) -> object:
    claims = Claims()
    claims.take(record)
    _, topic, *tenant = (record.key or b"").decode().split("/")
    return claims.holder(TenantLetters(topic, *(tenant or [""])), now=NOW)


def _ledger_in(record: Record) -> object:
    identity = Identity()
    identity.take([record])
    return identity.recorded.holds


def _letter_in(record: Record) -> object:
    letter = plain(read_letter(record))
    del letter["record"]
    return letter


READERS: Final[Mapping[str, Callable[[Record], object]]] = {
    "delivery": read_delivery,
    "delayedDelivery": lambda record: [read_delivery(record), read_wait(record)],
    "deadLetter": _letter_in,
    "deliveryEvent": read_event,
    "receipt": read_receipt,
    "suppression": read_suppression,
    "suppressionLifted": read_suppression,
    "auditFact": read_audit,
    "template": lambda record: read_template("shipped", record.value or b"").render({"order": 17}),
    "ledger": _ledger_in,
    "seek": read_seek,
    "passedOver": read_passed,
    "passedOverDecided": read_passed,
    "brake": read_brake,
    "recorderBrake": read_brake,
    "recovery": read_recovery,
    "recoveryTakenBack": read_recovery,
    "redriveClaim": _claim_in,
    "redriveClaimEnded": _claim_in,
}
"""How a role reads each kind of message; the names are those of `contracts/topics.py`."""


def to_json(record: NewRecord) -> Json:
    """A record as a file keeps it. Values and headers are text: all of Pabal's are."""
    return {
        "topic": record.topic,
        "key": None if record.key is None else record.key.decode(),
        "value": None if record.value is None else record.value.decode(),
        "headers": [[name, value.decode()] for name, value in record.headers],
    }


def from_json(written: Json, *, offset: int = 5) -> Record:
    """The record as it stood in its log."""
    headers: Headers = tuple((name, value.encode()) for name, value in written["headers"])
    return Record(
        topic=written["topic"],
        partition=0,
        offset=offset,
        timestamp=NOW.timestamp(),
        key=None if written["key"] is None else written["key"].encode(),
        value=None if written["value"] is None else written["value"].encode(),
        headers=headers,
    )


async def write_records(folder: Path) -> list[Json]:
    """Every kind of message, and what it says to whoever reads it."""
    return [
        {"message": name, **(written := to_json(record)), "means": plain(READERS[name](from_json(written)))}
        for name, records in (await examples(folder)).items()
        for record in records
    ]


# -- the embedded log


class Nothing:
    """A member that only looks on."""

    def assigned(self, partitions: object) -> None:
        """See `Assignment.assigned`."""

    def revoked(self, partitions: object) -> Mapping[TopicPartition, int]:
        """See `Assignment.revoked`."""
        return {}

    def lost(self, partitions: object) -> None:
        """See `Assignment.lost`."""


async def write_log(path: Path, records: list[Json]) -> None:
    """A log with these records in it, and a group that has read one partition in part."""
    broker = await SqliteBroker.open(path, clock=ManualClock(NOW))
    for spec in topics_for(["email", "webhook"], partitions=1, replication=None):
        await broker.admin().create_topic(spec)
    for written in records:
        record = from_json(written)
        await broker.producer().append(
            [NewRecord(topic=record.topic, key=record.key, value=record.value, headers=record.headers)]
        )
    await broker.admin().reset_offsets(GROUP, {TopicPartition(EVENTS_TOPIC, 0): 3})
    await broker.close()


async def read_log(path: Path) -> Json:
    """Topics, records and committed offsets of a log."""
    broker = await SqliteBroker.open(path, clock=ManualClock(NOW))
    admin, reader = broker.admin(), broker.reader()
    found = {
        "topics": {name: plain(spec) for name, spec in sorted((await admin.topics()).items())},
        "committed": [
            [*partition, offset] for partition, offset in (await admin.committed(GROUP, [EVENTS_TOPIC])).items()
        ],
        "records": [
            {**to_json(_as_new(record)), "offset": record.offset, "timestamp": record.timestamp}
            for name in sorted(await admin.topics())
            async for batch in reader.read(TopicPartition(name, 0))
            for record in batch
        ],
    }
    await broker.close()
    return found


def _as_new(record: Record) -> NewRecord:
    return NewRecord(topic=record.topic, key=record.key, value=record.value, headers=record.headers)


# -- the ledger


def _ids() -> Iterator[uuid.UUID]:
    return (uuid.UUID(int=number) for number in itertools.count(1))


def _claim(ledger: SqliteLedger, *, attempt: int = 1, recipient: bytes = b"") -> Claim:
    return Claim(
        source=Source(attempt, 0),
        owner=ledger.owner,
        token=ledger.new_token(),
        lease_seconds=30.0,
        provider="smtp",
        may_repeat=True,
        prune_after=LATER.timestamp(),
        recipient=recipient,
    )


LEDGER_DELIVERIES: Final = len(OUTCOMES) + len(VERDICTS) + 4


async def write_ledger(path: Path) -> None:
    """A ledger with an end of every kind, and with rows that are claimed, free, settled and cancelled."""
    ledger = await SqliteLedger.open(path, clock=ManualClock(NOW), worker="a")
    ids = _ids()
    for outcome, verdict in (*((each, Expired()) for each in OUTCOMES), *((OUTCOMES[1], each) for each in VERDICTS)):
        ask, delivery = _claim(ledger), next(ids)
        await ledger.claim(delivery, ask)
        await ledger.finish(
            delivery, Finish(attempt=1, owner=ask.owner, token=ask.token, outcome=outcome, verdict=verdict)
        )
    claimed, free, settled, cancelled = (next(ids) for _ in range(4))
    await ledger.claim(claimed, _claim(ledger))
    await ledger.claim(free, ask := _claim(ledger))
    await ledger.release(free, owner=ask.owner, token=ask.token)
    await ledger.claim(settled, ask := _claim(ledger))
    await ledger.finish(
        settled, Finish(attempt=1, owner=ask.owner, token=ask.token, outcome=OUTCOMES[0], verdict=Done())
    )
    ledger.settle(settled, owner=ask.owner, token=ask.token)
    await ledger.cancel(cancelled, prune_after=LATER.timestamp())
    await ledger.suppress([SUPPRESSION, _a_suppression_of("b@example.com")])
    await ledger.close()


def _a_suppression_of(address: str) -> Suppression:
    return msgspec.structs.replace(SUPPRESSION, address=address)


async def read_ledger(path: Path) -> Json:
    """How a ledger answers another worker about each delivery, once about its own record and once about the next."""
    ledger = await SqliteLedger.open(path, clock=ManualClock(NOW), worker="b")
    ids = list(itertools.islice(_ids(), LEDGER_DELIVERIES + 1))
    found = {
        "id": str(ledger.id),
        "known": sorted(map(str, await ledger.known(ids))),
        "suppressed": sorted(key.decode() for key in await ledger.suppressed()),
        "same record": [plain(await ledger.claim(each, _claim(ledger))) for each in ids],
        "next record": [plain(await ledger.claim(each, _claim(ledger, attempt=2))) for each in ids],
        "suppressed address": plain(
            await ledger.claim(uuid.UUID(int=1000), _claim(ledger, recipient=b"shop/email/a@example.com"))
        ),
    }
    await ledger.close()
    return found


# -- the store

ASIDE: Final = SetAside(
    topic="pabal.events", partition=1, offset=17, at=NOW, error="not a delivery event", size=3, start=b"\0{}"
)
EARLY: Final = msgspec.structs.replace(
    SPARE, id=uuid.UUID(int=1), send_at=LATER, tags=("c",), address="https://example.com/2", expires_at=LATER
)
FACTS: Final[tuple[StoredFact, ...]] = (
    FULL,
    EARLY,
    msgspec.structs.replace(EVENT, kind="deferred", detail="busy", response="450", due=LATER, latency_seconds=0.25),
    msgspec.structs.replace(EVENT, id=OTHER_ID, provider="smtp", provider_id="p-1", attempt=3, at=LATER),
    msgspec.structs.replace(RECEIPT, id=uuid.UUID(int=3), delivery_id=None, provider_id="p-1", detail="full"),
    msgspec.structs.replace(RECEIPT, id=uuid.UUID(int=4), delivery_id=None, provider_id="p-2", kind="opened"),
    DeadLettered(
        topic="pabal.dead.webhook",
        partition=0,
        offset=9,
        at=NOW,
        error_class="exhausted",
        message="no more",
        delivery=EARLY,
    ),
    msgspec.structs.replace(EVENT, id=uuid.UUID(int=5), delivery_id=uuid.UUID(int=6), kind="scheduled", tags=("d",)),
)


async def write_store(path: Path) -> None:
    """A store that has taken in facts of every kind."""
    store = SqlStore(f"sqlite:{path}", clock=ManualClock(LATER))
    await store.fold(FACTS)
    await store.set_aside([ASIDE])
    await store.close()


async def read_store(path: Path) -> Json:
    """What a store tells its readers."""
    store = SqlStore(f"sqlite:{path}", clock=ManualClock(LATER))
    await store.migrate()
    late = msgspec.structs.replace(EVENT, id=uuid.UUID(int=7), provider="smtp", provider_id="p-2", attempt=4)
    found = {
        "deliveries": [
            plain(await store.delivery(each, tenant=TENANT)) for each in (ID, uuid.UUID(int=1), uuid.UUID(int=6))
        ],
        "of others": plain(await store.delivery(ID, tenant="other")),
        "notification": plain(await store.notification(OTHER_ID, tenant=TENANT)),
        "tagged": [
            plain((await store.deliveries(DeliveryFilter(tag=tag), tenant=TENANT, limit=10)).deliveries)
            for tag in ("a", "c", "d")
        ],
        "aside": plain(await store.aside(limit=10)),
        "reprocessed": plain(await store.reprocessed(since=NOW, until=LATER)),
        "unaccounted": plain(await store.unaccounted(now=LATER + timedelta(days=9), limit=10)),
    }
    # A receipt that waits for the event that tells whose it is.
    await store.fold([late])
    found["reported"] = plain(await store.reported([late]))
    await store.close()
    return found


# -- files


def dump(path: Path) -> str:
    """An SQLite file as the SQL that makes it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        numbers = {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in _NUMBERS}
        lines = [*(f"PRAGMA {name} = {number};" for name, number in numbers.items()), *connection.iterdump()]
    return "\n".join(lines) + "\n"


_NUMBERS: Final = ("application_id", "user_version")


def load(sql: Path, path: Path) -> None:
    """Make the SQLite file that a dump speaks of."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(sql.read_text(encoding="utf-8"))


async def write(folder: Path) -> None:
    """Write everything into a folder, and what it means."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        records = await write_records(place / "examples")
        _keep(folder / "records.json", records)
        await write_log(place / "log.db", records)
        await write_ledger(place / "ledger.db")
        await write_store(place / "store.db")
        means: Json = {}
        for name, read in READ.items():
            text = dump(place / f"{name}.db")
            (folder / f"{name}.sql").write_text(text, encoding="utf-8")
            means[name] = await read(place / f"{name}.db")
        _keep(folder / "means.json", means)


READ: Final = {"log": read_log, "ledger": read_ledger, "store": read_store}


def _keep(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    into = Path(sys.argv[1])
    into.mkdir(parents=True, exist_ok=True)
    asyncio.run(write(into))
