"""The store's database as one thread uses it: opened at its first use, again after a failure; migrations; errors.

SQLite migrates by itself: the file belongs to one host, and can be built again. PostgreSQL is shared by processes of
which some may be older, so a person says when (`pabal store migrate`); until then every call says so.
"""

import logging
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL

from pabal.errors import StoreRefused, StoreUnavailable
from pabal.private_files import make_private_file, make_private_folder
from pabal.store.migrations import VERSION_TABLE
from pabal.store.schema import REVISION

logger = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_SECONDS: Final = 5.0
"""How long a write waits for another process that writes to the file, and a connection for its server."""

_PAUSE_SECONDS: Final = 0.01

STATEMENT_SECONDS: Final = 30.0
"""How long a statement may take in PostgreSQL before the server gives it up."""

SILENT_SECONDS: Final = STATEMENT_SECONDS + 5.0
"""How long a server may be silent before we give up: a server that works would have given up the statement."""

_LIMIT_EXCEEDED: Final = "54"
"""PostgreSQL's class of errors for values beyond its limits, such as a text too long for its index: waiting mends none
of them (PostgreSQL, Appendix A)."""

_MIGRATION_LOCK: Final = 0x7061626D
"""An advisory lock of PostgreSQL: one migrates, the others wait and find it done."""

_SESSION: Final = (
    "SET search_path = pabal_store",
    "SET default_transaction_isolation = 'read committed'",
    f"SET statement_timeout = '{STATEMENT_SECONDS:.0f}s'",
    "SET idle_in_transaction_session_timeout = '60s'",
)
"""A schema of its own, so that the tables may lie in any database, also in the ledger's."""

_PRAGMAS: Final = (
    "PRAGMA synchronous = NORMAL",
    "PRAGMA cache_size = -8000",
    "PRAGMA wal_autocheckpoint = 16000",
)
"""NORMAL: a commit does not wait for the disk. The file stays sound whatever happens; a power failure may take the last
second's facts, which `pabal recorder rebuild` reads again. Checkpoints after 64 MB instead of 4: a page that changes
often is written to its place less often (a sixth off the CPU of a fact at 200,000 deliveries)."""


class Database:
    """See the module. For one thread at a time."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._engine: sa.Engine | None = None
        self._is_ready = False

    @property
    def is_sqlite(self) -> bool:
        """Whether it is a file."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._url.get_backend_name()

    def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Do `work` in a transaction that sees one state. Raises StoreUnavailable."""
        return self._insist(work, writes=False)

    def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Do `work` in a transaction; it may be done twice. Raises StoreUnavailable, StoreRefused."""
        return self._insist(work, writes=True)

    def migrate(self) -> str | None:
        """Bring the tables to this version; what they were at before. Raises StoreUnavailable."""
        return self._translated(self._migrate)

    def close(self) -> None:
        """Let go."""
        if self._engine is not None:
            self._engine.dispose()
        self._engine = None
        self._is_ready = False

    def _insist(self, work: Callable[[sa.Connection], T], *, writes: bool) -> T:
        def in_transaction() -> T:
            self._ensure_ready()
            with self._connect(writes=writes) as connection, connection.begin():
                return work(connection)

        try:
            return self._translated(in_transaction)
        except _ConnectionLost:
            # The server was restarted since. If it serves again, the caller need not notice.
            return self._translated(in_transaction)

    def _translated(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (exc.DataError, exc.IntegrityError, OverflowError, UnicodeError) as error:
            raise StoreRefused(f"the store at {self._place()} does not take it: {_first_line(error)}") from error
        except exc.DBAPIError as error:
            if str(getattr(error.orig, "sqlstate", "")).startswith(_LIMIT_EXCEEDED):
                raise StoreRefused(f"the store at {self._place()} does not take it: {_first_line(error)}") from error
            # A connection may be lost because it is an old one; a server that is silent would be silent again.
            is_lost = error.connection_invalidated and not _is_silence(error)
            raise (_ConnectionLost if is_lost else StoreUnavailable)(
                f"the store at {self._place()} did not answer: {_first_line(error)}"
            ) from error
        except (exc.SQLAlchemyError, OSError) as error:
            raise StoreUnavailable(f"the store at {self._place()} did not answer: {_first_line(error)}") from error

    def _ensure_ready(self) -> None:
        if self._is_ready:
            return
        found = self._version()
        if found != REVISION:
            if not self.is_sqlite:
                raise StoreUnavailable(
                    f"the tables of the store at {self._place()} are at {found or 'nothing'}, this Pabal needs "
                    f"{REVISION}; run: pabal store migrate"
                )
            self._migrate()
        self._is_ready = True

    def _version(self) -> str | None:
        with self._connect(writes=False) as connection, connection.begin():
            return _version(connection)

    def _migrate(self) -> str | None:
        with self._connect(writes=True) as connection, connection.begin():
            if not self.is_sqlite:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                connection.execute(sa.text("CREATE SCHEMA IF NOT EXISTS pabal_store"))
            found = _version(connection)
            if found is None and self.is_sqlite and sa.inspect(connection).get_table_names():
                raise StoreUnavailable(f"{self._url.database} is an SQLite file, but no store")
            if found != REVISION:
                _upgrade(connection, place=self._place(), found=found)
            return found

    def _connect(self, *, writes: bool) -> sa.Connection:
        if self._engine is None:
            self._engine = self._open()
        connection = self._engine.connect()
        connection.info["writes"] = writes
        return connection

    def _open(self) -> sa.Engine:
        if self.is_sqlite:
            path = Path(self._url.database or "")
            make_private_folder(path.parent)
            make_private_file(path)
            arguments: dict[str, Any] = {"timeout": PATIENCE_SECONDS}
        else:
            arguments = {"connect_timeout": int(PATIENCE_SECONDS), "application_name": "pabal store"}
        engine = sa.create_engine(self._url, pool_size=1, max_overflow=0, connect_args=arguments)
        event.listen(engine, "connect", _prepare_sqlite if self.is_sqlite else _prepare_postgresql)
        if self.is_sqlite:
            event.listen(engine, "begin", _begin_sqlite)
        else:
            event.listen(engine, "do_connect", _connect_impatiently)
        return engine

    def _place(self) -> str:
        return self._url.render_as_string(hide_password=True)


class _ConnectionLost(StoreUnavailable):
    """The connection is gone; a new one may work."""


def _enter_wal(connection: sqlite3.Connection) -> None:
    """SQLite's own waiting does not cover this: of two that open a new file at once, one is told that it is locked."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where `_begin_sqlite` says
    _enter_wal(connection)
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that would write only later could not wait for its turn (SQLITE_BUSY).
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.info["writes"] else "BEGIN")


def _connect_impatiently(_dialect: object, _record: object, arguments: Any, named: Any) -> Any:
    # Loaded only where there is a PostgreSQL.
    from pabal.postgres_silence import ImpatientConnection

    connection = ImpatientConnection.connect(*arguments, **named)
    connection.silent_seconds = SILENT_SECONDS
    return connection


def _is_silence(error: exc.DBAPIError) -> bool:
    """Only of a PostgreSQL's connection that was lost."""
    from pabal.postgres_silence import ServerSilent

    return isinstance(error.orig, ServerSilent)


def _prepare_postgresql(connection: Any, _record: object) -> None:
    connection.autocommit = True
    for statement in _SESSION:
        connection.execute(statement)
    connection.autocommit = False


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608
    return version


def _upgrade(connection: sa.Connection, *, place: str, found: str | None) -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every plugin it finds
    # Loaded only when there is something to migrate.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreUnavailable(
            f"the tables of the store at {place} are at {found}, which this Pabal ({REVISION}) does not know: {error}"
        ) from error
    before = f"they were at {found}" if found else "there were none"
    logger.info("the tables of the store at %s are at %s now (%s)", place, REVISION, before)


def _first_line(error: BaseException) -> str:
    told = error.orig if isinstance(error, exc.DBAPIError) and error.orig else error
    return str(told).strip().partition("\n")[0] or type(told).__name__
