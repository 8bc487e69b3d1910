"""`pabal events`: what happens, as it happens, on either log."""

import asyncio
import contextlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, get_args

import click
import msgspec

from pabal.broker.port import Record
from pabal.cli.options import common_options, settings_here, url_here, with_clear_errors
from pabal.cli.terminal import harmless, is_output_read, say, say_json_line
from pabal.codec import decoded
from pabal.compose.parts import open_parts
from pabal.errors import ConfigError, DecodeError, LogUnavailable
from pabal.notification import EVENTS_TOPIC, EventKind, ReceiptKind
from pabal.runtime import run
from pabal.tail import HistoryTail
from pabal.unreadable import Unreadable

_ASK_AGAIN_SECONDS: Final = 0.5
_KINDS: Final = sorted({*get_args(EventKind), *get_args(ReceiptKind)})
_MOST_OF_A_WORD: Final = 1000
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


_decode = msgspec.json.Decoder(dict[str, Any]).decode


class CloudEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A CloudEvent as it stands in the log. Read by its headers, so that kinds of a newer version are shown as well."""

    id: str
    type: str
    source: str
    time: str
    data: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What happened, without the delivery or receipt that it happened to."""
        return self.type.rpartition(".")[2]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which events to show. Of each field that is given, an event must have one of the values."""

    channels: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    deliveries: tuple[str, ...] = ()

    def takes(self, event: CloudEvent) -> bool:
        """Whether the event is to be shown. A receipt names no channel and no tenant."""
        return (
            (not self.channels or event.data.get("channel") in self.channels)
            and (not self.kinds or event.kind in self.kinds)
            and (not self.tenants or event.data.get("tenant") in self.tenants)
            and (not self.deliveries or event.data.get("delivery_id") in self.deliveries)
        )


class Shown:
    """The latest events shown: a fact that was appended twice, or read again after a fault, is shown once."""

    _MOST = 100_000

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], None] = {}

    def is_new(self, event: CloudEvent) -> bool:
        """Whether the event was not asked about before (CloudEvents: source and id name an event)."""
        name = (event.source, event.id)
        if name in self._ids:
            return False
        self._ids[name] = None
        if len(self._ids) > self._MOST:
            del self._ids[next(iter(self._ids))]
        return True


@click.command()
@common_options
@click.option("--channel", "channels", multiple=True, help="Only of this channel; may be repeated.")
@click.option("--kind", "kinds", type=click.Choice(_KINDS), multiple=True, help="Only of this kind; may be repeated.")
@click.option("--tenant", "tenants", multiple=True, help="Only of this tenant; may be repeated.")
@click.option("--delivery", "deliveries", multiple=True, help="Only of the delivery with this id; may be repeated.")
@click.option("--since", default="5m", show_default=True, help="From when on: 30s, 5m, 2h, 1d ago, or an instant.")
@click.option("--once", is_flag=True, help="End at what is there now instead of waiting for more.")
@click.option("--json", "as_json", is_flag=True, help="One CloudEvent in JSON a line.")
@with_clear_errors
def events(
    log_url: str | None,
    config: Path | None,
    data: Path,
    channels: tuple[str, ...],
    kinds: tuple[str, ...],
    tenants: tuple[str, ...],
    deliveries: tuple[str, ...],
    *,
    since: str,
    once: bool,
    as_json: bool,
) -> None:
    """Show what happens to deliveries, as it happens. Reads without a group, so no role notices it."""
    settings = settings_here(config, data)
    url = url_here(log_url, settings, data)
    wanted = Wanted(channels=channels, kinds=kinds, tenants=tenants, deliveries=deliveries)
    start = read_since(since, now=datetime.now(UTC))

    async def main(stopping: asyncio.Event) -> None:
        async with open_parts(settings, log_url=url, data=data) as parts:
            tail = HistoryTail(EVENTS_TOPIC, reader=parts.broker.reader(), admin=parts.broker.admin(), start=start)
            shown, unreadable = Shown(), Unreadable("events")
            while True:
                try:
                    await _show_new(tail, wanted, shown=shown, unreadable=unreadable, as_json=as_json)
                except LogUnavailable as error:
                    if once:
                        raise
                    say(f"waiting: {error}", err=True)
                # Behind `| head` nobody may be left to see the next event, however long it takes to come.
                if once or stopping.is_set() or not is_output_read():
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), _ASK_AGAIN_SECONDS)

    run(main)


async def _show_new(tail: HistoryTail, wanted: Wanted, *, shown: Shown, unreadable: Unreadable, as_json: bool) -> None:
    """Show what was appended since the last look, partitions merged by time."""
    new: list[CloudEvent] = []
    async for record in tail.read_on():
        event = read_event(record)
        if event is None:
            unreadable.note(record, "not an event")
        elif wanted.takes(event) and shown.is_new(event):
            new.append(event)
    for event in sorted(new, key=lambda event: event.time):
        if as_json:
            say_json_line(render_json(event))
        else:
            say(render_line(event))


def read_since(text: str, *, now: datetime) -> datetime:
    """`10m` ago, or the instant itself. Raises ConfigError."""
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return now - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"--since {text}: write 30s, 5m, 2h, 1d, or an instant such as 2026-01-31T12:00Z") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def read_event(record: Record) -> CloudEvent | None:
    """The CloudEvent in a record; None when the record is none."""
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    try:
        data = decoded(_decode, record.value, what="an object")
        return CloudEvent(
            id=headers["ce_id"],
            type=headers["ce_type"],
            source=headers["ce_source"],
            time=headers["ce_time"],
            data=data,
        )
    except (DecodeError, KeyError):
        return None


def render_json(event: CloudEvent) -> dict[str, Any]:
    """The event in CloudEvents' JSON format (§3)."""
    own = msgspec.structs.asdict(event)
    return {"specversion": "1.0", "datacontenttype": "application/json", **own}


def render_line(event: CloudEvent) -> str:
    """The event for a person, in words for one line."""
    data = event.data
    said = [
        event.time.replace("+00:00", "Z"),
        f"{event.type.removeprefix('pabal.').removeprefix('delivery.'):<14}",
        f"{data.get('channel') or data.get('provider') or '-':<8}",
        str(data.get("delivery_id") or data.get("provider_id") or "-"),
        data.get("tenant"),
        data.get("address"),
        f"attempt {data['attempt']}" if "attempt" in data else None,
        f"{latency * 1000:.0f} ms" if isinstance(latency := data.get("latency_seconds"), float) else None,
        f"due {data['due']}" if data.get("due") else None,
        data.get("detail"),
    ]
    return harmless("  ".join(str(word)[:_MOST_OF_A_WORD] for word in said if word))
