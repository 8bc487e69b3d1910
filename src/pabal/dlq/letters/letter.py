"""A dead letter: what stands in a record of `pabal.dead.*`, readable or not. Pure."""

from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec

from pabal.broker.port import Record
from pabal.codec import read_delivery, read_instant
from pabal.errors import ConfigError, DecodeError
from pabal.notification import Delivery, dead_topic

UNCERTAIN: Final = "uncertain"
"""The error class of a call that ended without an answer: it may have been sent."""

_PREFIX: Final = dead_topic("")
_MOST_HEX_BYTES: Final = 4096


class LetterId(NamedTuple):
    """Where a dead letter stands: its identity for ever. In words `channel/partition/offset`."""

    channel: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.channel}/{self.partition}/{self.offset}"


def parse_letter_id(text: str) -> LetterId:
    """The letter that `webhook/0/17` names; `pabal.dead.webhook/0/17` does too. Raises ConfigError."""
    match text.removeprefix(_PREFIX).split("/"):
        case [channel, partition, offset] if channel and _is_number(partition) and _is_number(offset):
            return LetterId(channel, int(partition), int(offset))
        case _:
            raise ConfigError(
                f"{text!r} names no dead letter; write CHANNEL/PARTITION/OFFSET such as webhook/0/17 (pabal dlq list)"
            )


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


class Letter(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One dead letter. `delivery` is None when its bytes cannot be read; `undecodable` then says why.

    `at`: when it was given up; `first_failed_at`: when its first call failed. `origin` is the record it came from.
    """

    id: LetterId
    at: datetime
    error_class: str
    message: str
    provider: str
    first_failed_at: datetime
    origin: str
    record: Record
    delivery: Delivery | None = None
    undecodable: str | None = None
    is_edited: bool = False
    """Whether an operator corrected the delivery since it was given up."""

    @property
    def tenant(self) -> str:
        """The tenant it belongs to; empty when its bytes cannot be read."""
        return self.delivery.tenant if self.delivery else ""

    @property
    def class_(self) -> str:
        """Its class; empty when its bytes cannot be read."""
        return self.delivery.class_ if self.delivery else ""

    @property
    def matter(self) -> str:
        """What it is about: one attempt of one delivery. A worker that crashed may have appended the letter twice."""
        return f"{self.delivery.id}/{self.delivery.attempt}" if self.delivery else str(self.id)


def read_letter(record: Record) -> Letter:
    """The letter in a record of `pabal.dead.*`. Any bytes give one."""
    delivery, undecodable = None, None
    try:
        delivery = read_delivery(record)
    except DecodeError as error:
        undecodable = str(error)
    if (cut := _text(record, "x-cut-from-bytes")) and undecodable:
        undecodable = f"it was cut from {cut} bytes, which the log did not take; the whole stands where it came from"
    stood_at = datetime.fromtimestamp(record.timestamp, UTC)
    at = _instant(record, "x-failed-at") or stood_at
    origin = [_text(record, f"x-original-{part}") for part in ("topic", "partition", "offset")]
    return Letter(
        id=LetterId(record.topic.removeprefix(_PREFIX), record.partition, record.offset),
        at=at,
        error_class=_text(record, "x-error-class") or "unknown",
        message=_text(record, "x-error-message"),
        provider=_text(record, "x-provider"),
        first_failed_at=_instant(record, "x-first-failed-at") or at,
        origin="/".join(origin) if all(origin) else "",
        record=record,
        delivery=delivery,
        undecodable=undecodable,
    )


def hex_dump(value: bytes) -> str:
    """Bytes as a person reads them: offset, sixteen bytes in hex, the printable ones; cut after 4 KiB."""
    shown = value[:_MOST_HEX_BYTES]
    lines = []
    for start in range(0, len(shown), 16):
        row = shown[start : start + 16]
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{start:08x}  {row.hex(' '):<47}  {printable}")
    if len(value) > len(shown):
        lines.append(f"… and {len(value) - len(shown):,} bytes more")
    return "\n".join(lines)


def _text(record: Record, name: str) -> str:
    return (record.header(name) or b"").decode(errors="replace")


def _instant(record: Record, name: str) -> datetime | None:
    try:
        return read_instant(record.header(name))
    except ValueError:
        return None
