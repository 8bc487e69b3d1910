"""The ledger of an installation, and whether the log belongs to it. Here alone it is known which ledgers there are."""

import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

from pabal.compose.parts import Parts
from pabal.config import Settings
from pabal.extras import require_extra
from pabal.ledger.looking import look_at_ledger
from pabal.ledger.port import Ledger
from pabal.ledger.sqlite.ledger import SqliteLedger
from pabal.ledger_identity import LedgerIdentity
from pabal.places import is_postgres, without_password


async def open_ledger(parts: Parts, *, worker: str, may_be_first: bool = True) -> Ledger:
    """The ledger of this installation, as a new owner of that name.

    Who is not a worker may not be the first: it could stand on another host, and its file be the wrong one.

    Raises ConfigError (also when the log belongs to another ledger), LedgerUnavailable, LogUnavailable.
    """
    ledger, place = await _open_any(parts, worker=worker)
    try:
        await _with_identity(
            parts,
            lambda identity: identity.check(
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
    """Let the log belong to the ledger of this installation from now on; its id. Raises as `open_ledger`."""
    ledger, _ = await _open_any(parts, worker=f"adopt-{secrets.token_hex(8)}")
    await ledger.close()
    await _with_identity(parts, lambda identity: identity.adopt(ledger.id))
    return ledger.id


async def _with_identity(parts: Parts, use: Callable[[LedgerIdentity], Awaitable[None]]) -> None:
    producer, reader, admin = parts.broker.producer(), parts.broker.reader(), parts.broker.admin()
    try:
        await use(LedgerIdentity(producer=producer, reader=reader, admin=admin, clock=parts.clock))
    finally:
        for client in (producer, reader, admin):
            await client.close()


async def _open_any(parts: Parts, *, worker: str) -> tuple[Ledger, str]:
    """The ledger, whichever it is, and where it is, in words without a password."""
    setting = ledger_setting(parts.settings, parts.data)
    if is_postgres(setting):
        require_extra("postgres", wanted_by="a ledger in PostgreSQL")
        from pabal.ledger.postgres.ledger import PostgresLedger

        return await PostgresLedger.open(setting, worker=worker), ledger_place(parts)
    return await SqliteLedger.open(
        Path(setting.removeprefix("sqlite:")), clock=parts.clock, worker=worker
    ), ledger_place(parts)


def ledger_setting(settings: Settings, data: Path) -> str:
    """The ledger's path or URL, by default a file in the data folder."""
    return settings.ledger or str(data / "ledger.db")


def ledger_place(parts: Parts) -> str:
    """Where the ledger is, in words without a password."""
    return without_password(ledger_setting(parts.settings, parts.data))
