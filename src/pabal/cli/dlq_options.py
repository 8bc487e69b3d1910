"""What the commands of `pabal dlq` share: filters, the desk of an installation, JSON."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click

from pabal.cli.letters import open_dead_letters
from pabal.cli.options import clear_errors, settings_here, url_here
from pabal.clock import SystemClock
from pabal.compose.parts import open_parts
from pabal.compose.stores import open_store
from pabal.dlq.letters.letter import parse_letter_id
from pabal.dlq.letters.selection import Selection, parse_instant
from pabal.dlq.parts import DeadLetters
from pabal.notification import CLASSES

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")


def selection_options(command: F) -> F:
    """Filters; the command gets a `Selection` as `selection`."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in _FILTERS}
        with clear_errors():
            return command(*args, selection=_selection(**given), **kwargs)

    for option in reversed(
        (
            click.option("--channel", "channels", multiple=True, help="Only this channel."),
            click.option("--error", "error_classes", multiple=True, help="Only this error class (exhausted, …)."),
            click.option("--provider", "providers", multiple=True, help="Only what this provider was to carry."),
            click.option("--tenant", "tenants", multiple=True, help="Only this tenant."),
            click.option("--class", "classes", multiple=True, type=click.Choice(CLASSES), help="Only this class."),
            click.option("--delivery", "deliveries", multiple=True, type=click.UUID, help="Only this delivery."),
            click.option("--letter", "letters", multiple=True, help="Only this letter."),
            click.option("--since", help="Given up at or after: 2h, 30m, 7d (ago), or 2026-01-31T14:00 (UTC)."),
            click.option("--until", help="Given up before; the same. `--until 2h`: older than two hours."),
        )
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


_FILTERS = (
    "channels",
    "error_classes",
    "providers",
    "tenants",
    "classes",
    "deliveries",
    "letters",
    "since",
    "until",
)


def _selection(
    *,
    channels: tuple[str, ...],
    error_classes: tuple[str, ...],
    providers: tuple[str, ...],
    tenants: tuple[str, ...],
    classes: tuple[str, ...],
    deliveries: tuple[UUID, ...],
    letters: tuple[str, ...],
    since: str | None,
    until: str | None,
) -> Selection:
    now = SystemClock().now()
    return Selection(
        channels=channels,
        error_classes=error_classes,
        providers=providers,
        tenants=tenants,
        classes=classes,
        deliveries=deliveries,
        letters=tuple(str(parse_letter_id(text)) for text in letters),
        since=parse_instant(since, now=now) if since else None,
        until=parse_instant(until, now=now) if until else None,
    )


@contextlib.asynccontextmanager
async def open_desk(*, log_url: str | None, config: Path | None, data: Path) -> AsyncIterator[DeadLetters]:
    """The dead letters of the installation that the common options name."""
    settings = settings_here(config, data)
    url = url_here(log_url, settings, data)
    async with contextlib.AsyncExitStack() as closing:
        parts = await closing.enter_async_context(open_parts(settings, log_url=url, data=data))
        store = None
        # A file that no recorder has made is not made by looking.
        if settings.store.url or (data / "store.db").exists():
            store = open_store(settings, data)
            closing.push_async_callback(store.close)
        yield await closing.enter_async_context(
            open_dead_letters(parts.broker, settings=settings, clock=parts.clock, store=store)
        )


def with_desk(
    work: Callable[[DeadLetters], Awaitable[T]], *, log_url: str | None, config: Path | None, data: Path
) -> T:
    """What `work` makes of the dead letters of that installation."""

    async def main() -> T:
        async with open_desk(log_url=log_url, config=config, data=data) as desk:
            return await work(desk)

    return asyncio.run(main())


def states_of(state: str) -> Collection[str]:
    """The states that `--state` means; none: any."""
    return () if state == "any" else (state,)
