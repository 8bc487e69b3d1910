"""Which dead letters are meant. Pure."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final, Literal, get_args
from uuid import UUID

import msgspec

from pabal.dlq.letters.letter import Letter
from pabal.dlq.letters.marks import State
from pabal.errors import ConfigError
from pabal.notification import Fact, Instant

Dimension = Literal["channel", "error_class", "provider", "tenant", "class", "state", "age"]
"""What dead letters may be counted by. The error class says why."""

DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)

_AGES: Final = ((3600.0, "under 1 h"), (86400.0, "1 h to 1 day"), (7 * 86400.0, "1 to 7 days"))
_AGE: Final = re.compile(r"(\d{1,6})\s*(s|m|h|d|w)")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class Selection(Fact, frozen=True, kw_only=True):
    """Filters: a letter must fit every one that is given, and any value of it.

    `letters` are named by their ids, `webhook/0/17`. `since` (at or after) and `until` (before) speak of when it was
    given up.
    """

    channels: tuple[str, ...] = ()
    error_classes: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    deliveries: tuple[UUID, ...] = ()
    letters: tuple[str, ...] = ()
    since: Instant | None = None
    until: Instant | None = None


def matches(selection: Selection, letter: Letter) -> bool:
    """Whether the letter is meant. Bytes that cannot be read have no tenant, class or delivery."""
    return (
        _fits(selection.channels, letter.id.channel)
        and _fits(selection.error_classes, letter.error_class)
        and _fits(selection.providers, letter.provider)
        and _fits(selection.tenants, letter.tenant)
        and _fits(selection.classes, letter.class_)
        and (not selection.deliveries or (letter.delivery is not None and letter.delivery.id in selection.deliveries))
        and (not selection.letters or str(letter.id) in selection.letters)
        and (selection.since is None or letter.at >= selection.since)
        and (selection.until is None or letter.at < selection.until)
    )


def _fits(wanted: tuple[str, ...], value: str) -> bool:
    return not wanted or value in wanted


def parse_instant(text: str, *, now: datetime) -> datetime:
    """An instant from a person: `2h`, `30m`, `7d` ago, or an ISO 8601 time (without a zone: as `now`'s).

    Raises ConfigError.
    """
    if match := _AGE.fullmatch(text.strip().lower()):
        return now - timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no time; write 2h, 30m or 7d (ago), or 2026-01-31T14:00") from None
    return instant if instant.tzinfo else instant.replace(tzinfo=now.tzinfo)


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Letters that are alike: the values they share, how many, and since when."""

    values: Mapping[str, str]
    count: int
    oldest: datetime
    newest: datetime


def count_by(
    letters: Iterable[tuple[Letter, State]], *, dimensions: Collection[Dimension], now: datetime
) -> list[Group]:
    """How many letters there are of each kind, the most frequent first."""
    counts: Counter[tuple[str, ...]] = Counter()
    oldest: dict[tuple[str, ...], datetime] = {}
    newest: dict[tuple[str, ...], datetime] = {}
    for letter, state in letters:
        key = tuple(_value(letter, state, dimension, now=now) for dimension in dimensions)
        counts[key] += 1
        oldest[key] = min(letter.at, oldest.get(key, letter.at))
        newest[key] = max(letter.at, newest.get(key, letter.at))
    return [
        Group(values=dict(zip(dimensions, key, strict=True)), count=count, oldest=oldest[key], newest=newest[key])
        for key, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    ]


def _value(letter: Letter, state: State, dimension: Dimension, *, now: datetime) -> str:
    match dimension:
        case "channel":
            return letter.id.channel
        case "error_class":
            return letter.error_class
        case "provider":
            return letter.provider
        case "tenant":
            return letter.tenant
        case "class":
            return letter.class_
        case "state":
            return state
        case "age":
            age_seconds = (now - letter.at).total_seconds()
            return next((name for limit, name in _AGES if age_seconds < limit), "over 7 days")
