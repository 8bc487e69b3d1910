"""The systems compared: each as its programs, started anew for every round, always over the same log."""

import sys
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from bench.lab import BenchFailed, Lab, Program, free_port
from pabal.cli.key import as_toml, make_key

_PABAL = [sys.executable, "-m", "pabal"]
_CONFIG = """\
{key}

[tenants.bench]
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

    def __init__(self, lab: Lab, *, log_url: str, data: Path, mail: str = _MAIL) -> None:
        self.port = free_port()
        self._lab = lab
        self.api_key, entry = make_key("bench", scopes=("send",))
        config = data / "pabal.toml"
        secret = f"whsec_{b64encode(bytes(range(32))).decode()}"
        config.write_text(_CONFIG.format(key=as_toml(entry), secret=secret) + mail)
        self._options = ["--log", log_url, "--config", str(config), "--data", str(data)]
        self.run_once("topics", "create")
        # On Kafka the log outlives the ledger of the Pabal before this one.
        self.run_once("ledger", "adopt", "--yes")

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

    def run_once(self, *command: str) -> None:
        """A command that ends by itself."""
        program = self._lab.start(f"pabal-{command[0]}", [*_PABAL, *command, *self._options])
        if program.wait(60) != 0:
            raise BenchFailed(f"pabal {' '.join(command)} failed:\n{program.log.read_text()[-3000:]}")

    def fill(self, count: int, *, hook: str) -> None:
        """Let `count` deliveries wait in the log, as the API would have written them."""
        command = [sys.executable, "-m", "bench.fill", self._options[1], str(count), hook]
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


def embedded_apart(lab: Lab) -> Pabal:
    """Pabal's roles as processes of their own on one embedded log."""
    data = lab.new_directory("pabal")
    return Pabal(lab, log_url=f"sqlite:{data / 'log.db'}", data=data)


def kafka_systems(lab: Lab) -> tuple[System, Pabal]:
    """Both on the lab's Kafka."""
    data = lab.new_directory("pabal")
    return KafkaSketch(lab), Pabal(lab, log_url=f"kafka://{lab.kafka.bootstrap}", data=data)
