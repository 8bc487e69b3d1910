"""The systems compared: each as its programs, started anew for every round, always over the same log."""

import contextlib
import sqlite3
import sys
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import psycopg

from bench.lab import BenchFailed, Lab, Program, free_port
from pabal.cli.key import as_toml, make_key

_PABAL = [sys.executable, "-m", "pabal"]
_DATABASE = """\
ledger = "{url}"

[store]
url = "{url}"

"""
_CONFIG = """\
{key}

{neighbour_key}

[tenants.bench]
webhook_secrets = ["{secret}"]

[tenants.neighbour]
webhook_secrets = ["{secret}"]

[providers.webhook]
allow = ["127.0.0.0/8"]
"""
_MAIL = """\

[providers.smtp]
host = "127.0.0.1"
tls = "none"
sender = "bench@pabal.example"
"""
"""Roles apart need a server for the mail channel, though no mail is sent; `pabal up` brings its own."""


class System(Protocol):
    """A system with an API on `port`."""

    name: str
    api_key: str | None
    port: int

    def start_api(self) -> Sequence[Program]:
        """What accepts, and nothing else."""
        ...

    def start_worker(self) -> Sequence[Program]:
        """What delivers, one process, and nothing else."""
        ...

    def start_all(self) -> Sequence[Program]:
        """Everything a small installation runs."""
        ...


class KafkaSketch:
    """`bench/sketch_kafka.py`."""

    name = "sketch"
    api_key: str | None = None

    def __init__(self, lab: Lab) -> None:
        self.port = free_port()
        self._lab = lab
        lab.create_topics("sketch.deliveries", "sketch.events", partitions=6)

    def start_api(self) -> Sequence[Program]:
        """See `System`."""
        command = [sys.executable, "-m", "bench.sketch_kafka", "accept", str(self.port), self._lab.kafka.bootstrap]
        return [self._lab.start("sketch-api", command, ready_port=self.port)]

    def start_worker(self) -> Sequence[Program]:
        """See `System`."""
        command = [sys.executable, "-m", "bench.sketch_kafka", "work", self._lab.kafka.bootstrap]
        return [self._lab.start("sketch-worker", command)]

    def start_all(self) -> Sequence[Program]:
        """See `System`."""
        return [*self.start_api(), *self.start_worker()]


class EmbeddedSketch:
    """`bench/sketch_embedded.py`."""

    name = "sketch"
    api_key: str | None = None

    def __init__(self, lab: Lab) -> None:
        self.port = free_port()
        self._lab = lab

    def start_api(self) -> Sequence[Program]:
        """It has no parts."""
        raise BenchFailed("the embedded sketch is one process")

    start_worker = start_api

    def start_all(self) -> Sequence[Program]:
        """See `System`; with a new log each time."""
        data = self._lab.new_directory("sketch")
        command = [sys.executable, "-m", "bench.sketch_embedded", str(self.port), str(data)]
        return [self._lab.start("sketch", command, ready_port=self.port)]


class Pabal:
    """Pabal through its command line, on a log whose topics it creates first."""

    name = "pabal"
    api_key: str | None
    neighbour_key: str
    """Of a second tenant."""

    def __init__(self, lab: Lab, *, log_url: str, data: Path, mail: str = _MAIL, database: str | None = None) -> None:
        """`database`: a PostgreSQL for ledger and store; without it they are files in `data`."""
        self.port = free_port()
        self._lab = lab
        self._data = data
        self._database = database
        self.api_key, entry = make_key("bench", scopes=("send",))
        self.neighbour_key, neighbour = make_key("neighbour", scopes=("send",))
        config = data / "pabal.toml"
        secret = f"whsec_{b64encode(bytes(range(32))).decode()}"
        head = _DATABASE.format(url=database) if database else ""
        config.write_text(
            head + _CONFIG.format(key=as_toml(entry), neighbour_key=as_toml(neighbour), secret=secret) + mail
        )
        self.log_url, self._config = log_url, config
        self._options = ["--log", log_url, "--config", str(config), "--data", str(data)]
        self.run_once("topics", "create")
        # On Kafka the log outlives the ledger of the Pabal before this one.
        self.run_once("ledger", "adopt", "--yes")
        if database:
            self.run_once("store", "migrate")

    def start_api(self) -> Sequence[Program]:
        """See `System`."""
        command = [*_PABAL, "api", *self._options, "--port", str(self.port)]
        return [self._lab.start("pabal-api", command, ready_port=self.port)]

    def start_worker(self) -> Sequence[Program]:
        """See `System`."""
        return [self._lab.start("pabal-worker", [*_PABAL, "worker", *self._options])]

    def start_all(self) -> Sequence[Program]:
        """See `System`."""
        delayline = self._lab.start("pabal-delayline", [*_PABAL, "delayline", *self._options])
        return [*self.start_api(), *self.start_worker(), delayline]

    def start_recorder(self) -> Sequence[Program]:
        """What folds deliveries and events into the store."""
        return [self._lab.start("pabal-recorder", [*_PABAL, "recorder", *self._options])]

    def recorded(self) -> int:
        """How many deliveries the store knows to be sent."""
        if self._database:
            with psycopg.connect(self._database) as postgres:
                row = postgres.execute("SELECT count(*) FROM pabal_store.deliveries WHERE status = 'sent'").fetchone()
        else:
            with contextlib.closing(sqlite3.connect(self._data / "store.db", timeout=10)) as sqlite:
                row = sqlite.execute("SELECT count(*) FROM deliveries WHERE status = 'sent'").fetchone()
        assert row is not None
        return int(row[0])

    def run_once(self, *command: str) -> None:
        """A command that ends by itself."""
        program = self._lab.start(f"pabal-{command[0]}", [*_PABAL, *command, *self._options])
        if program.wait(60) != 0:
            raise BenchFailed(f"pabal {' '.join(command)} failed:\n{program.log.read_text()[-3000:]}")

    def command(self, *command: str) -> Sequence[str]:
        """The command line of a `pabal` command on this log."""
        return [*_PABAL, *command, *(self._options if not command[0].startswith("-") else ())]

    def fill(self, count: int, *, hook: str) -> None:
        """Let `count` deliveries wait in the log, as the API would have written them."""
        command = [sys.executable, "-m", "bench.fill", self.log_url, str(count), hook]
        program = self._lab.start("fill", command)
        if program.wait(1200) != 0:
            raise BenchFailed(f"filling the log failed:\n{program.log.read_text()[-3000:]}")


class PabalUp(Pabal):
    """`pabal up`: every role in one process on the embedded log."""

    def __init__(self, lab: Lab) -> None:
        data = lab.new_directory("pabal")
        super().__init__(lab, log_url=f"sqlite:{data / 'log.db'}", data=data, mail="")

    def start_all(self) -> Sequence[Program]:
        """See `System`."""
        ports = ["--port", str(self.port), "--inbox-port", str(free_port()), "--smtp-port", str(free_port())]
        return [self._lab.start("pabal-up", [*_PABAL, "up", *self._options, *ports], ready_port=self.port)]


class MainJob(Pabal):
    """`bench/main_job.py`: the roles that the sketch of one process has as well."""

    def __init__(self, lab: Lab) -> None:
        data = lab.new_directory("pabal")
        super().__init__(lab, log_url=f"sqlite:{data / 'log.db'}", data=data)

    def start_all(self) -> Sequence[Program]:
        """See `System`."""
        command = [sys.executable, "-m", "bench.main_job", self.log_url, str(self._config), str(self._data)]
        return [self._lab.start("main-job", [*command, str(self.port)], ready_port=self.port)]


def embedded_apart(lab: Lab) -> Pabal:
    """Pabal's roles as processes of their own on one embedded log."""
    data = lab.new_directory("pabal")
    return Pabal(lab, log_url=f"sqlite:{data / 'log.db'}", data=data)


def kafka_systems(lab: Lab, *, database: str | None = None) -> tuple[System, Pabal]:
    """Both on the lab's Kafka."""
    data = lab.new_directory("pabal")
    return KafkaSketch(lab), Pabal(lab, log_url=f"kafka://{lab.kafka.bootstrap}", data=data, database=database)
