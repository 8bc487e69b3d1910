"""One installation to be treated badly: roles as processes of their own on one log, callers, a far side that counts."""

import asyncio
import hashlib
import os
import secrets
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
from bench.lab import FarSide, Lab, Program, accepts, free_port
from servers.kafka import KafkaCluster
from servers.postgres import PostgresServer

from chaos.account import Log
from chaos.disk import small_disk
from chaos.failed import RunFailed
from pabal.compose.stores import open_store
from pabal.config import load_settings
from pabal.store.port import Store

IN_FLIGHT = 128
"""Call slots of the webhook channel in one worker: the most that one crash can leave unknown."""

MAIL_IN_FLIGHT = 20
"""The same of the e-mail channel."""

PARTITIONS = 4

_CONFIG = """\
ledger = "{ledger}"

[store]
url = "{store}"

[[api.keys]]
tenant = "shop"
hash = "{key_hash}"
scopes = ["send", "read", "admin"]

[[api.keys]]
tenant = "neighbour"
hash = "{neighbour_hash}"
scopes = ["send", "read", "admin"]

[tenants.shop]
webhook_secrets = ["{secret}"]

[tenants.neighbour]
webhook_secrets = ["{secret}"]

[providers.webhook]
allow = ["127.0.0.0/8"]
timeout_seconds = 2.0

[providers.smtp]
host = "127.0.0.1"
port = {smtp_port}
tls = "none"
sender = "Shop <shop@example.com>"
timeout_seconds = 2.0

{more}
"""

_READY_SECONDS = 40.0
_POLL_SECONDS = 0.05
_OUTPUT_SHOWN = 3000


class Receiver(FarSide):
    """The simulator, its mail side too."""

    def __init__(self, url: str, control_url: str, *, smtp_port: int) -> None:
        super().__init__(url, control_url)
        self.smtp_port = smtp_port

    def answer(self, *, http: Mapping[str, object] | None = None, smtp: Mapping[str, object] | None = None) -> None:
        """Behave like this from now on; without a word, accept everything at once."""
        phase = {"http": http, "smtp": smtp}
        self._call("PUT", "/behaviour", {medium: [said] for medium, said in phase.items() if said is not None})

    def answer_by_path(self, *behaviours: Mapping[str, object]) -> None:
        """Behave like this from now on, a URL each; accept everything else at once."""
        self._call("PUT", "/behaviour", {"http": behaviours})

    def arrived(self) -> dict[str, list[int]]:
        """Per delivery id its arrivals in nanoseconds since the Unix epoch; of mail, by its Message-ID.

        What was refused by its status has not arrived.
        """
        arrivals = self._call("GET", "/arrivals?refused=no")
        return {key.strip("<>").partition("@")[0]: times for key, times in arrivals.items()}

    def by_answer(self) -> dict[str, int]:
        """How many requests were answered how: `http 200`, `smtp 250`."""
        return dict(self._call("GET", "/counts?by_key=no")["by_answer"])


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """What a scenario runs on: brokers of a Kafka and properties of theirs, more lines of configuration, a small disk
    for the roles' data, and whether ledger and store are in a PostgreSQL instead of SQLite files."""

    brokers: int = 1
    broker_properties: Mapping[str, str] = {}
    config: str = ""
    has_small_disk: bool = False
    has_postgres: bool = False


class Installation:
    """Roles by name (`worker-1`), started, killed, frozen. Leave the context of `opened` to end them all."""

    def __init__(
        self, lab: Lab, setting: Setting, *, folder: Path, far_side: Receiver, postgres: PostgresServer | None
    ) -> None:
        self.port = free_port()
        self.api_key = f"pabal_{secrets.token_urlsafe(16)}"
        self.neighbour_key = f"pabal_{secrets.token_urlsafe(16)}"
        self.folder = folder
        self.far_side = far_side
        self.log_url = f"sqlite:{folder / 'log.db'}"
        self.cluster: KafkaCluster | None = None
        self.postgres = postgres
        self.programs: dict[str, Program] = {}
        self._lab = lab
        self._setting = setting
        (folder / "pabal.toml").write_text(
            _CONFIG.format(
                ledger=postgres.url() if postgres else f"sqlite:{folder / 'ledger.db'}",
                store=postgres.url() if postgres else f"sqlite:{folder / 'store.db'}",
                key_hash=hashlib.sha256(self.api_key.encode()).hexdigest(),
                neighbour_hash=hashlib.sha256(self.neighbour_key.encode()).hexdigest(),
                secret=f"whsec_{b64encode(bytes(range(32))).decode()}",
                smtp_port=far_side.smtp_port,
                more=setting.config,
            )
        )

    @classmethod
    @asynccontextmanager
    async def opened(cls, directory: Path, setting: Setting, *, log: Log) -> AsyncIterator["Installation"]:
        """One with its topics made and nothing started."""
        async with AsyncExitStack() as closing:
            lab = closing.enter_context(Lab(directory))
            folder = lab.new_directory("pabal")
            if setting.has_small_disk:
                closing.enter_context(small_disk(folder))
            postgres = None
            if setting.has_postgres:
                postgres = await asyncio.to_thread(PostgresServer.start, settings={"fsync": "on"})
                closing.callback(postgres.stop)
            pabal = cls(lab, setting, folder=folder, far_side=_start_far_side(lab), postgres=postgres)
            try:
                await pabal._prepare(directory, log=log)
                yield pabal
            finally:
                for program in pabal.programs.values():
                    _signal(program, signal.SIGKILL)
                if pabal.cluster is not None:
                    pabal.cluster.stop()

    async def _prepare(self, directory: Path, *, log: Log) -> None:
        command = ["topics", "create", f"--partitions={PARTITIONS}"]
        if log == "kafka":
            brokers = self._setting.brokers
            self.cluster = await asyncio.to_thread(
                KafkaCluster.start,
                directory / "kafka",
                brokers=brokers,
                settings={"auto.create.topics.enable": "false", **self._setting.broker_properties},
            )
            self.log_url = f"kafka://{self.cluster.bootstrap}"
            command += [f"--replication={brokers}"]
        program = self._launch("topics", *command)
        await _succeeds(program)
        if self.postgres is not None:
            await _succeeds(self._launch("store", "store", "migrate"))

    async def start_all(self, *workers: str) -> None:
        """Start every role, with workers of these names."""
        await self.start("api", "delayline", "recorder", *workers)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        """The store, to be looked into."""
        settings = load_settings(self.folder / "pabal.toml", environment={})
        store = open_store(settings, self.folder)
        try:
            yield store
        finally:
            await store.close()

    async def start(
        self,
        *names: str,
        environment: Mapping[str, str] | None = None,
        is_named: bool = True,
        descriptors: int | None = None,
    ) -> None:
        """Start roles and wait until an API among them is ready.

        `worker-2` is a worker, and is told that name unless `is_named` is false. `descriptors`: how many files and
        connections each may have open, and cannot raise.
        """
        for name in names:
            role = name.partition("-")[0]
            arguments = [role, "--name", name] if is_named else [role]
            if role == "api":
                arguments = [role, "--port", str(self.port)]
            elif role == "up":
                arguments = [role, "--port", str(self.port), "--inbox-port", str(free_port())]
            self.programs[name] = self._launch(name, *arguments, environment=environment, descriptors=descriptors)
        for name in names:
            if name.partition("-")[0] in ("api", "up"):
                await self.until(lambda: accepts(self.port), f"{name} to listen", within_seconds=_READY_SECONDS)

    def kill(self, name: str) -> None:
        """SIGKILL: no warning, no clean-up. Raises RunFailed when a role has ended by itself before."""
        self.check()
        _signal(self.programs[name], signal.SIGKILL)
        self.programs.pop(name).wait(10)

    def freeze(self, name: str) -> None:
        """SIGSTOP: it stays as it is, and does nothing."""
        _signal(self.programs[name], signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT: it goes on as if no time had passed."""
        _signal(self.programs[name], signal.SIGCONT)

    async def leave(self, name: str) -> None:
        """SIGTERM, once it is up, and wait for the orderly end."""
        program = self.programs[name]
        await self.until(lambda: _catches_sigterm(program.pid), f"{name} to be up", within_seconds=_READY_SECONDS)
        del self.programs[name]
        if (status := await asyncio.to_thread(program.stop)) != 0:
            raise RunFailed(f"{name} left with exit status {status}:\n{said_by(program)}")

    async def dies(self, name: str, *, within_seconds: float) -> None:
        """Wait until a process with a fault wired in has killed itself."""
        program = self.programs.pop(name)
        try:
            status = await asyncio.to_thread(program.wait, within_seconds)
        except subprocess.TimeoutExpired:
            self.programs[name] = program
            raise RunFailed(f"{name} did not come to the step where it was to die:\n{said_by(program)}") from None
        if status != -signal.SIGKILL:
            raise RunFailed(f"{name} ended with {status}:\n{said_by(program)}")

    async def until(self, predicate: Callable[[], object], what: str, *, within_seconds: float) -> None:
        """Wait until it is true. Raises RunFailed when it takes too long or a role ended by itself."""
        deadline = time.monotonic() + within_seconds
        while not predicate():
            self.check()
            if time.monotonic() > deadline:
                raise RunFailed(f"waited {within_seconds:.0f} s in vain for {what}\n{self.said()}")
            await asyncio.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Raise RunFailed when a role has ended by itself."""
        for name, program in self.programs.items():
            if not _is_alive(program):
                raise RunFailed(f"{name} ended by itself:\n{said_by(program)}")

    def said(self) -> str:
        """The end of what each running role printed."""
        return "\n".join(f"== {name}\n{said_by(program)}" for name, program in self.programs.items())

    def printed(self) -> str:
        """Everything that every role printed, the dead ones' too."""
        return "\n".join(file.read_text(errors="replace") for file in sorted(self._lab.directory.glob("*.log")))

    def _launch(
        self,
        name: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        descriptors: int | None = None,
    ) -> Program:
        common = ["--log", self.log_url, "--data", str(self.folder), "--config", str(self.folder / "pabal.toml")]
        given = [f"{key}={value}" for key, value in (environment or {}).items()]
        command = [sys.executable, "-m", "chaos.entry", *arguments, *common]
        if given:
            command = ["/usr/bin/env", *given, *command]
        if descriptors is not None:
            command = ["/bin/sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", *command]
        return self._lab.start(name, command)


def said_by(program: Program) -> str:
    """The end of what a program printed."""
    return program.log.read_text(errors="replace")[-_OUTPUT_SHOWN:]


async def _succeeds(program: Program) -> None:
    if await asyncio.to_thread(program.wait, 60) != 0:
        raise RunFailed(f"pabal {program.name} failed:\n{said_by(program)}")


def _start_far_side(lab: Lab) -> Receiver:
    http, smtp, control = free_port(), free_port(), free_port()
    ports = ["--port", str(http), "--smtp-port", str(smtp), "--control-port", str(control), "--keep", "0"]
    lab.start("simulator", [sys.executable, "-m", "pabal", "simulator", *ports], ready_port=control)
    return Receiver(f"http://127.0.0.1:{http}", f"http://127.0.0.1:{control}", smtp_port=smtp)


def _signal(program: Program, number: signal.Signals) -> None:
    if _is_alive(program):
        os.kill(program.pid, number)


def _is_alive(program: Program) -> bool:
    """Whether it runs; one that has ended is reaped by this."""
    try:
        program.wait(0)
    except subprocess.TimeoutExpired:
        return True
    return False


def _catches_sigterm(pid: int) -> bool:
    """Whether a process has come so far that it ends in good order when asked to (proc(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    [caught] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)
