"""A real PostgreSQL on this machine, without Docker: for contract tests, rehearsals and benchmarks.

::

    with PostgresServer.start() as server:
        with server.new_database() as url:
            ledger = await PostgresLedger.open(url, worker="a")
            server.kill()
            server.launch()

It listens on a unix socket of its own and on no port. PostgreSQL 13 or newer must be installed (Debian: the package
`postgresql`; its binaries need not be on the PATH). It refuses to run as root, so root runs it as `postgres` or
`nobody`. A server lives no longer than the process that started it, even when that process is killed.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg

START_DEADLINE_SECONDS = 60.0
"""A server serves within a second of its start on a free core; a loaded CI machine takes longer."""

_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "max_connections": "200",
    # Survives the end of any process, not the end of the machine. Benchmarks pass fsync=on.
    "fsync": "off",
    # A crash's write-ahead log is replayed within the patience of a test.
    "max_wal_size": "256MB",
    "timezone": "UTC",
}

_READY = "database system is ready to accept connections"

_WATCH = """
read -r _
kill -QUIT "$0"
kill -CONT "$0"
for try in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$0" 2>/dev/null && sleep 0.2; done
[ -z "$1" ] || rm -rf "$1"
"""


class PostgresMissing(Exception):
    """This machine lacks what it takes to run PostgreSQL; the message says what."""


class PostgresStartFailed(Exception):
    """The server did not come up; the message ends with the last lines it wrote."""


class PostgresServer:
    """One server with storage, socket and log in one folder. Not safe for use from several threads."""

    def __init__(self, directory: Path, *, settings: Mapping[str, str], is_ours: bool) -> None:
        self._binaries = find_binaries()
        self._directory = directory
        self._settings = {**_SETTINGS, "unix_socket_directories": str(directory), **settings}
        self._is_ours = is_ours
        self._as_user = _as_unprivileged_user()
        self._log = directory / "server.log"
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._databases = itertools.count(1)

    @classmethod
    def start(cls, directory: Path | None = None, *, settings: Mapping[str, str] | None = None) -> Self:
        """Make fresh storage, start, and return once the server serves.

        `directory` must be empty, short (a socket's path has at most 107 bytes) and, for root, one that other users
        can reach; without it a temporary one is made, and removed by `stop`. `settings` go before those of `_SETTINGS`.

        Raises:
            PostgresMissing: it is not installed, or we are root and there is no other user to run it.
            PostgresStartFailed: it ended or did not serve within `START_DEADLINE_SECONDS`.
        """
        find_binaries()
        folder = directory or Path(tempfile.mkdtemp(prefix="pabal-pg-"))
        server = cls(folder, settings=settings or {}, is_ours=directory is None)
        try:
            server._make_storage()
            server.launch()
        except BaseException:
            server.stop()
            raise
        return server

    def url(self, database: str = "postgres") -> str:
        """The address of one of its databases, for libpq as for SQLAlchemy."""
        return f"postgresql://pabal@/{database}?host={self._directory}"

    @contextlib.contextmanager
    def new_database(self) -> Iterator[str]:
        """The address of an empty database, which is dropped afterwards, even if it is still used."""
        name = f"database_{next(self._databases)}"
        self._execute(f"CREATE DATABASE {name}")
        try:
            yield self.url(name)
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def launch(self) -> None:
        """Start it (again) on its storage; return once it serves. After a kill it recovers by itself."""
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        settings = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C in a terminal must not end the server before the tests are done with it.
            self._process = subprocess.Popen(  # noqa: S603
                [self._binaries / "postgres", "-D", self._data, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                **self._as_user,
                start_new_session=True,
            )
        # Its `read` ends when our end of the pipe closes, which the kernel does even for a killed process.
        self._watchdog = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", _WATCH, str(self._process.pid), str(self._directory) if self._is_ours else ""],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        self._wait_until_serving()

    def restart(self) -> None:
        """Stop in order, breaking every connection ("fast" in PostgreSQL's words), and start again."""
        self._end(signal.SIGINT)
        self.launch()

    def kill(self) -> None:
        """End all of its processes by SIGKILL. `launch` starts it again."""
        family = self.process_ids()
        self._end(signal.SIGKILL)
        for process_id in family[1:]:
            # They notice by themselves that their parent is gone, and may have ended already.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, signal.SIGKILL)
        while any(Path(f"/proc/{process_id}").exists() for process_id in family[1:]):
            time.sleep(0.005)

    def pause(self) -> None:
        """Freeze all of its processes by SIGSTOP: connections stay open, new ones are made, and nothing answers."""
        self._tell(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._tell(signal.SIGCONT)

    def process_ids(self) -> Sequence[int]:
        """The running server's process ids, its main process's first, to measure what they use."""
        if self._process is None:
            return []
        return [self._process.pid, *_children_of(self._process.pid)]

    def stop(self) -> None:
        """End it at once; the storage is not meant to be used again, and removed unless it was given. Idempotent."""
        self._end(signal.SIGQUIT)
        if self._is_ours:
            shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self._directory / "data"

    def _make_storage(self) -> None:
        if self._as_user:
            os.chown(self._directory, self._as_user["user"], -1)
        made = subprocess.run(  # noqa: S603
            [
                self._binaries / "initdb",
                *("-D", self._data, "-U", "pabal", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            **self._as_user,
        )
        if made.returncode != 0:
            raise PostgresStartFailed(f"initdb in {self._directory} failed:\n{made.stdout}{made.stderr}")

    def _wait_until_serving(self) -> None:
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while _READY not in (written := self._written()):
            if self._process is None or self._process.poll() is not None or time.monotonic() > deadline:
                raise PostgresStartFailed(f"the server of {self._directory} did not come up:\n{written[-4000:]}")
            time.sleep(0.01)

    def _written(self) -> str:
        """What the server logged since its last launch."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _end(self, number: signal.Signals) -> None:
        # The watchdog first: it must never shoot at a process id that another process has by now.
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.wait()
            if self._watchdog.stdin is not None:
                self._watchdog.stdin.close()
        if self._process is not None:
            self._process.send_signal(number)
            self.resume()  # a frozen process hears only SIGKILL
            self._process.wait()
        self._watchdog = self._process = None

    def _tell(self, number: signal.Signals) -> None:
        """To all of its processes, the main one first: once that is frozen there are no new ones."""
        if self._process is None:
            return
        self._process.send_signal(number)
        for process_id in _children_of(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process_id, number)

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())


def missing() -> str | None:
    """Why no PostgreSQL can be started here, or None."""
    try:
        find_binaries()
        _as_unprivileged_user()
    except PostgresMissing as error:
        return str(error)
    return None


def find_binaries() -> Path:
    """The folder with `initdb` and `postgres`: on the PATH, or the newest where Debian puts them.

    Raises:
        PostgresMissing: there is none.
    """
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    versions = [folder for folder in Path("/usr/lib/postgresql").glob("*/bin") if folder.parent.name.isdecimal()]
    folders += sorted(versions, key=lambda folder: -int(folder.parent.name))
    for folder in folders:
        if all((folder / name).exists() for name in ("initdb", "postgres")):
            return folder
    raise PostgresMissing("PostgreSQL is not installed (Debian: apt-get install postgresql)")


def _as_unprivileged_user() -> Mapping[str, Any]:
    """What starts a process as another user when we are root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):  # no such user here
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise PostgresMissing("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


def _children_of(parent: int) -> Sequence[int]:
    children = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            # The second field is the command in parentheses, and may have spaces in it.
            fields = status.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                children.append(int(status.parent.name))
    return children
