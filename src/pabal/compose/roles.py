"""The table of roles. `pabal up`, the command of each role and its help are made from it; tests compare the docs.

A new role is a module beside this one, a word in `RoleName`, and a row in `ROLES`.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Literal

import msgspec

from pabal.compose.api import run_api
from pabal.compose.delayline import run_delayline
from pabal.compose.monitor import run_monitor
from pabal.compose.parts import Parts, Ready, say_nothing
from pabal.compose.recorder import run_recorder
from pabal.compose.worker import run_worker
from pabal.groups import RoleName

Need = Literal["socket", "name", "channels"]
"""What a role may need besides the parts: a socket to serve on, a name that survives restarts, the channels to send."""


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a role is given. The role reads the fields that it `needs`, and ignores the others."""

    listening: socket.socket | None = None
    name: str | None = None
    channels: tuple[str, ...] = ()
    ready: Ready = say_nothing


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """One role. `title`: its name in a sentence. `summary` and `advice`: the two parts of its help text."""

    name: RoleName
    title: str
    summary: str
    advice: str
    needs: frozenset[Need]
    run: Callable[[Parts, asyncio.Event, Given], Coroutine[Any, Any, None]]


async def _api(parts: Parts, stopping: asyncio.Event, given: Given) -> None:
    assert given.listening is not None
    await run_api(parts, stopping, listening=given.listening, ready=given.ready)


async def _worker(parts: Parts, stopping: asyncio.Event, given: Given) -> None:
    await run_worker(parts, stopping, name=given.name, channels=given.channels, ready=given.ready)


async def _delayline(parts: Parts, stopping: asyncio.Event, given: Given) -> None:
    await run_delayline(parts, stopping, name=given.name, ready=given.ready)


async def _recorder(parts: Parts, stopping: asyncio.Event, given: Given) -> None:
    await run_recorder(parts, stopping, name=given.name, ready=given.ready)


async def _monitor(parts: Parts, stopping: asyncio.Event, given: Given) -> None:
    await run_monitor(parts, stopping, name=given.name, ready=given.ready)


ROLES: tuple[Role, ...] = (
    Role(
        name="api",
        title="API",
        summary="Accept notifications over HTTP and append them to the log.",
        advice="Stateless: run as many as needed behind a load balancer.",
        needs=frozenset({"socket"}),
        run=_api,
    ),
    Role(
        name="worker",
        title="worker",
        summary="Send deliveries: call the providers, retry, dead-letter.",
        advice="Workers share the partitions of their channels; run as many as there are partitions. All of them use "
        "one ledger.",
        needs=frozenset({"name", "channels"}),
        run=_worker,
    ),
    Role(
        name="delayline",
        title="delay line",
        summary="Hold retried and scheduled deliveries until they are due.",
        advice="Delay lines share the partitions of their topics; more than one is seldom needed.",
        needs=frozenset({"name"}),
        run=_delayline,
    ),
    Role(
        name="recorder",
        title="recorder",
        summary="Record what happens to deliveries in the store, so that it can be looked up.",
        advice="Recorders share the partitions of their topics; more than one is seldom needed.",
        needs=frozenset({"name"}),
        run=_recorder,
    ),
    Role(
        name="monitor",
        title="monitor",
        summary="Watch where every consumer group stands, which role is missing, and keep the history.",
        advice="One is active, any others wait to take over: run two.",
        needs=frozenset({"name"}),
        run=_monitor,
    ),
)
"""In the order of `RoleName`."""


def role_named(name: RoleName) -> Role:
    """The role of that name."""
    return next(role for role in ROLES if role.name == name)
