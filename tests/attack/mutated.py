"""Records of every schema as nobody should write them: extreme, cut, flipped, misplaced. Drawn from a `Random`, so that
Hypothesis can shrink what fails and a long run can repeat itself by its seed.

Addresses are of this machine or of nothing: whoever calls one reaches nobody.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final, Literal

import msgspec
from msgspec import inspect

from pabal.audit import audit_id
from pabal.broker.port import NewRecord
from pabal.codec import SCHEMA_HEADER
from pabal.contracts.records import RECORDS
from pabal.dlq.letters.marks import DISCARDED, EDITED, REDRIVEN, RESOLVED, Edit, Mark
from pabal.dlq.redrive.book import CANCELLED, REQUESTED
from pabal.dlq.redrive.run import ENDED, STARTED, Ending, Start
from pabal.notification import (
    AUDIT_TOPIC,
    CLASSES,
    EVENTS_TOPIC,
    HISTORY_TOPIC,
    OPS_TOPIC,
    RUNGS_SECONDS,
    STATUS_TOPIC,
    SUPPRESSIONS_TOPIC,
    dead_topic,
    delay_topic,
    deliveries_topic,
)
from pabal.ops.brakes import RECORDER, brake_key
from pabal.ops.ledger_identity import LEDGER_KEY

Change = Literal["extreme", "cut", "flipped", "retyped", "lacking", "noise", "nested", "doubled", "empty"]

BROKEN: Final[Sequence[Change]] = ("cut", "retyped", "lacking", "noise", "nested", "empty")
"""Changes after which no reader can take the value for one of its schema."""

CHANGES: Final[Sequence[Change]] = ("extreme", "flipped", "doubled", *BROKEN)

TEXTS: Final = ("", "\0", "a", "ä" * 50, "x" * 5000, "\x1b[31m", "a/b/c", "%s{}", " ", "\u202e", "127.0.0.1", "null")
ADDRESSES: Final = ("http://127.0.0.1:1/", "http://127.0.0.1:1/" + "a" * 3000, "https://[::1", "ana@localhost", "@", "")
NUMBERS: Final = (0, 1, 2, 7, 2**30 - 1, 2**30, 2**31 - 1)
SECONDS: Final = (0.0, -1.0, 1e-300, 1e308, -1e308, 0.5)
INSTANTS: Final = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "1969-12-31T23:59:59Z",
    "9000-12-31T23:59:59Z",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59.999999-14:00",
)

_DETAILS: Final[Mapping[str, type[Any]]] = {
    REQUESTED: Start,
    STARTED: Start,
    ENDED: Ending,
    CANCELLED: Mark,
    REDRIVEN: Mark,
    DISCARDED: Mark,
    RESOLVED: Mark,
    EDITED: Edit,
}


def topics_of(schema: str, channels: Sequence[str] = ("email", "webhook")) -> list[str]:
    """Where records of a schema stand."""
    match schema.partition("/")[0]:
        case "delivery":
            topics = [deliveries_topic(channel, class_) for channel in channels for class_ in CLASSES]
            topics += [dead_topic(channel) for channel in (*channels, "unknown")]
            return topics + [delay_topic(class_, seconds) for class_ in CLASSES for seconds in RUNGS_SECONDS]
        case "delivery-event" | "receipt":
            return [EVENTS_TOPIC]
        case "suppression":
            return [SUPPRESSIONS_TOPIC]
        case "audit":
            return [AUDIT_TOPIC]
        case "status" | "lag-sample":
            return [STATUS_TOPIC]
        case "history":
            return [HISTORY_TOPIC]
        case _:
            return [OPS_TOPIC]


def mutated(
    schema: str, random: Random, *, topic: str, changes: Sequence[Change] = CHANGES, key: bytes | None = None
) -> NewRecord:
    """A record of a schema, changed in one way, and perhaps under other headers or another key than it should have."""
    change = random.choice(changes)
    value = _changed(schema, change, random)
    headers: list[tuple[str, bytes]] = [(SCHEMA_HEADER, schema.encode())]
    if change == "extreme" and random.random() < 0.2:
        headers = random.choice([[], [(SCHEMA_HEADER, b"\xff")], [(SCHEMA_HEADER, b"")], [*headers, *headers]])
    for name in ("x-due", "x-release-at", "x-failed-at", "x-parked-at", "x-parked-for", "x-action", "ce_id", "ce_time"):
        if random.random() < 0.5:
            headers.append((name, random.choice([*INSTANTS, *TEXTS]).encode()))
    if schema == "brake/1" and change not in BROKEN:
        key = brake_key("pager", "bulk")  # What says so in order is heeded, whoever wrote it.
    return NewRecord(topic=topic, key=key or _key(schema, random), value=value, headers=tuple(headers))


def _key(schema: str, random: Random) -> bytes:
    word = random.choice([each.encode()[:200] for each in TEXTS])
    match schema.partition("/")[0]:
        case "ledger":
            return LEDGER_KEY
        case "brake":
            return random.choice([brake_key("webhook", "bulk"), brake_key(RECORDER, EVENTS_TOPIC), b"brake/" + word])
        case "template" | "recovery":
            return schema.partition("/")[0].encode() + b"/" + word
        case "redrive-claim":
            return b"redrive/" + random.choice([b"pabal.dead.webhook", word])
        case _:
            return word


def _changed(schema: str, change: Change, random: Random) -> bytes | None:
    model = RECORDS[schema].model
    plain = msgspec.json.encode(_value(model, random, is_extreme=change in ("extreme", "doubled")))
    match change:
        case "extreme":
            return plain
        case "doubled":
            return plain[:-1] + b"," + plain[1:] if plain != b"{}" else plain
        case "cut":
            return plain[: random.randrange(len(plain))]
        case "flipped":
            place = random.randrange(len(plain))
            return plain[:place] + bytes([plain[place] ^ 1 << random.randrange(8)]) + plain[place + 1 :]
        case "noise":
            return random.randbytes(random.randrange(1, 200)) + b"\xff"
        case "nested":
            return random.choice([b"[", b'{"of a later version":' + b"["]) + b"[" * random.choice([1, 1000, 200_000])
        case "empty":
            return random.choice([b"", b"null", b"[]", b"3", b'"text"'])
        case "retyped":
            fields = msgspec.json.decode(plain)
            fields[random.choice(list(fields) or ["id"])] = [[{"no": "field of ours has this"}]]
            return msgspec.json.encode(fields)
        case "lacking":
            # A template says nothing that it must say.
            return b"{}" if schema != "template/1" else b"{"


def _value(model: type[Any], random: Random, *, is_extreme: bool) -> Any:
    made = _of(inspect.type_info(model), random, "", is_extreme=is_extreme)
    if "action" in made and "subject" in made:
        action = random.choice(list(_DETAILS))
        detail = _of(inspect.type_info(_DETAILS[action]), random, "", is_extreme=is_extreme)
        occasion = str(random.random())
        made |= {"action": action, "detail": detail, "id": str(audit_id(action=action, subject="", occasion=occasion))}
    return made


def _of(info: inspect.Type, random: Random, name: str, *, is_extreme: bool) -> Any:
    """A value of a type as JSON has it."""
    match info:
        case inspect.StructType(fields=fields):
            return {
                field.encode_name: _of(field.type, random, field.encode_name, is_extreme=is_extreme)
                for field in fields
                if field.required or random.random() < 0.4
            }
        case inspect.UnionType(types=types):
            return _of(random.choice(types), random, name, is_extreme=is_extreme)
        case inspect.LiteralType(values=values):
            return random.choice(values)
        case inspect.DateTimeType():
            return random.choice(INSTANTS) if is_extreme else _now(random)
        case inspect.UUIDType():
            return str(uuid.UUID(int=random.getrandbits(128)))
        case inspect.BoolType():
            return random.random() < 0.5
        case inspect.IntType():
            return random.choice(NUMBERS) if is_extreme else random.randrange(3)
        case inspect.FloatType():
            return random.choice(SECONDS) if is_extreme else 1.5
        case inspect.NoneType():
            return None
        case inspect.DictType(value_type=inspect.IntType()):
            return {random.choice(TEXTS): random.choice(NUMBERS)}
        case inspect.DictType():
            return {random.choice(TEXTS): random.choice(TEXTS)}
        case inspect.CollectionType() | inspect.ListType() | inspect.VarTupleType() | inspect.TupleType():
            return [random.choice(TEXTS)]
        case _ if name == "address":
            return random.choice(ADDRESSES)
        case _ if name in ("channel", "class"):
            return random.choice(["webhook", "email", "pager"])
        case _:
            return random.choice(TEXTS) if is_extreme else "word"


def _now(random: Random) -> str:
    return (datetime.now(UTC) + timedelta(seconds=random.randrange(-3600, 3600))).isoformat()
