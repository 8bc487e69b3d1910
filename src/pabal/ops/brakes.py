"""Brakes on unreadable records: what takes nothing more, said and released in `pabal.ops`. Pure.

A worker that brakes a class writes `brake/<channel>/<class>`, a recorder that holds a topic `brake/recorder/<topic>`.
A person's release is written under the same key (`brake_release.py`). A record that cannot be read changes nothing:
the word before it holds.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import SCHEMA_HEADER, check_schema, decoded
from pabal.errors import DecodeError
from pabal.notification import OPS_TOPIC, Fact, Instant, is_reckoned
from pabal.ops.fold import LastWins

BRAKE_SCHEMA = b"brake/1"
RECORDER = "recorder"
"""Stands in a brake's name where a worker's has the channel; a topic follows."""


_KEY_PREFIX: Final = b"brake/"


class BrakeState(Fact, frozen=True, kw_only=True):
    """What holds for one class of one channel, or for a topic of the recorder (schema `brake/1`).

    `released`: not to be braked before `until`.
    """

    state: Literal["braked", "released"]
    at: Instant
    reason: str
    until: Instant | None = None


_decode = msgspec.json.Decoder(BrakeState).decode


class Brakes(LastWins[BrakeState]):
    """The fold: the last word on each brake, by the key of its record."""

    def __init__(self, tell: Callable[[Mapping[bytes, BrakeState]], None] | None = None) -> None:
        """`tell` is given the words that are new, the last of each brake."""
        super().__init__(_KEY_PREFIX, read=read_brake, name="brakes", tell=tell)

    def by_name(self) -> Mapping[str, BrakeState]:
        """The last word on each brake by `<channel> <class>`, or `recorder <topic>`."""
        return {
            key.removeprefix(_KEY_PREFIX).decode(errors="replace").replace("/", " "): state
            for key, state in self.last.items()
        }


def brake_key(channel: str, class_: str) -> bytes:
    """The key of its record in `pabal.ops`."""
    return _KEY_PREFIX + f"{channel}/{class_}".encode()


def brake_record(channel: str, class_: str, state: BrakeState) -> NewRecord:
    """The record that says so."""
    return NewRecord(
        topic=OPS_TOPIC,
        key=brake_key(channel, class_),
        value=msgspec.json.encode(state),
        headers=((SCHEMA_HEADER, BRAKE_SCHEMA),),
    )


def read_brake(record: Record) -> BrakeState | None:
    """What a record of `pabal.ops` says about a brake; None when it speaks of something else, or says nothing.

    Raises DecodeError when it should speak of one and cannot be read.
    """
    if record.value is None or not (record.key or b"").startswith(_KEY_PREFIX):
        return None
    check_schema(record, BRAKE_SCHEMA)
    state = decoded(_decode, record.value, what="a brake's state")
    if not is_reckoned(state.at) or not is_reckoned(state.until):
        raise DecodeError("not a brake's state: a time beyond all reckoning", error_class="undecodable")
    return state


def how_to_release(name: str) -> str:
    """What a person does about the brake of `<channel> <class>` or `recorder <topic>`: the words of the alert and of
    `pabal brake list`."""
    if name.startswith(f"{RECORDER} "):
        way = "Start a recorder that can fold them, or let them be set aside, with"
    else:
        way = "Undo what was deployed, then let it go on, or let what cannot be read be dead-lettered, with"
    return f"{way}: pabal brake release {name} --reason WHY"
