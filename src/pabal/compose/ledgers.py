"""The ledger of an installation, and whether the log belongs to it. Only this module knows which ledgers there are."""

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

from pabal.compose.parts import Parts
from pabal.config import Settings
from pabal.extras import require_extra
from pabal.ledger.looking import look_at_ledger
from pabal.ledger.port import Ledger
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger
from pabal.ops.ledger_binding import LedgerBinding
from pabal.places import is_postgres, without_password


async def open_ledger(parts: Parts, *, worker: str, may_be_first: bool = True) -> Ledger:
    """Open the ledger of this installation, as a new owner named `worker`.

    The first process that opens a ledger records in the log that the log belongs to it. Only a worker may be that first
    process (`may_be_first`): an API process may run on another host, where the ledger's path is another file.

    Raises ConfigError (also when the log belongs to another ledger), LedgerUnavailable, LogUnavailable.
    """
    ledger, place = await _open_any(parts, worker=worker)
    try:
        await _with_binding(
            parts,
            lambda binding: binding.check(
                ledger.id, place=place, may_be_first=may_be_first, knows_deliveries=lambda: _knows_deliveries(parts)
            ),
        )
    except BaseException:
        await ledger.close()
        raise
    return ledger


async def _knows_deliveries(parts: Parts) -> bool:
    looked = await look_at_ledger(ledger_setting(parts.settings, parts.data))
    return looked is not None and looked.has_rows


async def adopt_ledger(parts: Parts) -> UUID:
    """Record that the log belongs to this installation's ledger from now on; returns its id. As `open_ledger`."""
    ledger, _ = await _open_any(parts, worker=f"adopt-{secrets.token_hex(8)}")
    await ledger.close()
    await _with_binding(parts, lambda binding: binding.adopt(ledger.id))
    return ledger.id


async def _with_binding(parts: Parts, use: Callable[[LedgerBinding], Awaitable[None]]) -> None:
    producer, reader, admin = parts.broker.producer(), parts.broker.reader(), parts.broker.admin()
    try:
        await use(LedgerBinding(producer=producer, reader=reader, admin=admin, clock=parts.clock))
    finally:
        for client in (producer, reader, admin):
            await client.close()


async def _open_any(parts: Parts, *, worker: str) -> tuple[Ledger, str]:
    """The ledger of either kind, and its place as `ledger_place`."""
    check_ledger(parts.settings, parts.data)
    setting = ledger_setting(parts.settings, parts.data)
    if is_postgres(setting):
        from pabal.ledger.postgres.postgres_ledger import PostgresLedger

        return await PostgresLedger.open(setting, worker=worker), ledger_place(parts)
    return await SqliteLedger.open(
        Path(setting.removeprefix("sqlite:")), clock=parts.clock, worker=worker
    ), ledger_place(parts)


def ledger_setting(settings: Settings, data: Path) -> str:
    """The ledger's path or URL, by default a file in the data folder."""
    return settings.ledger or str(data / "ledger.db")


def check_ledger(settings: Settings, data: Path) -> None:
    """Raise ConfigError when the ledger needs an extra that is not installed. Opens nothing."""
    if is_postgres(ledger_setting(settings, data)):
        require_extra("postgres", wanted_by="a ledger in PostgreSQL")


def ledger_place(parts: Parts) -> str:
    """The ledger's path or URL, without a password."""
    return without_password(ledger_setting(parts.settings, parts.data))
