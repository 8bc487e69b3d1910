"""Where measurements happen: a directory, processes that end with it, a simulator, a Kafka."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.request import Request, urlopen

import msgspec
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from servers.kafka import KafkaCluster
from servers.postgres import PostgresServer

from bench.load import Job, Result

ROOT = Path(__file__).parent.parent
"""The checkout: programs of the bench run as its modules."""

_LOG_ERRORS = 3  # syslog(3)'s number, for librdkafka
_START_SECONDS = 30.0
_POLL_SECONDS = 0.05


class BenchFailed(Exception):
    """A measurement could not be made; the message says why."""


class Program:
    """A process of the run; its output goes to a file of its name."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise when it ended by itself."""
        if self._process.poll() is not None:
            raise BenchFailed(f"{self.name} ended with {self._process.returncode}:\n{self.log.read_text()[-3000:]}")

    def wait(self, within_seconds: float) -> int:
        """Its exit code, once it has ended by itself."""
        return self._process.wait(within_seconds)

    def stop(self) -> int:
        """Ask it to end, and see that it does; its exit code."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()


class FarSide:
    """The simulator in a process of its own, seen through its control calls."""

    def __init__(self, url: str, control_url: str) -> None:
        self.url = url
        self.hook = f"{url}/hook"
        self._control = f"{control_url}/_control"

    def elsewhere(self, path: str) -> str:
        """A URL of the same listener under another host's name: to Pabal's guard it is another host."""
        return self.url.replace("127.0.0.1", "localhost") + path

    def distinct(self) -> int:
        """How many different deliveries have arrived."""
        return int(self._call("GET", "/counts?by_key=no")["distinct"])

    def arrivals(self) -> dict[str, list[int]]:
        """Per delivery id its arrivals in nanoseconds since the Unix epoch."""
        return dict(self._call("GET", "/arrivals"))

    def behave(self, **behaviour: object) -> None:
        """Answer like this from now on."""
        self._call("PUT", "/behaviour", {"http": [behaviour]} if behaviour else {})

    def forget(self) -> None:
        """Begin the counts anew."""
        self._call("DELETE", "")

    def _call(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else msgspec.json.encode(body)
        with urlopen(Request(self._control + path, method=method, data=data)) as response:
            return msgspec.json.decode(response.read())


class Lab:
    """Everything of one run; leaving the context ends every process it started."""

    def __init__(self, directory: Path, *, warm_up_records: int = 60_000) -> None:
        """`warm_up_records`: what the broker takes before anything is measured on it."""
        self.directory = directory
        self._warm_up_records = warm_up_records
        self._stack = ExitStack()
        self._programs: list[Program] = []
        self._kafka: KafkaCluster | None = None
        self._postgres: PostgresServer | None = None
        self._far_side: FarSide | None = None
        self._runs = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def far_side(self) -> FarSide:
        """The simulator, started when first asked for."""
        if self._far_side is None:
            http, smtp, control = free_port(), free_port(), free_port()
            ports = ["--port", str(http), "--smtp-port", str(smtp), "--control-port", str(control), "--keep", "0"]
            run = "from pabal.cli.simulator import simulator; simulator()"
            self.start("simulator", [sys.executable, "-c", run, *ports], ready_port=control)
            self._far_side = FarSide(f"http://127.0.0.1:{http}", f"http://127.0.0.1:{control}")
        return self._far_side

    @property
    def kafka(self) -> KafkaCluster:
        """One broker with its own defaults and an ordinary JVM, started when first asked for."""
        if self._kafka is None:
            cluster = KafkaCluster.start(
                self.directory / "kafka", heap_mb=1024, jvm_options=(), settings={"auto.create.topics.enable": "false"}
            )
            self._kafka = self._stack.enter_context(cluster)
            self._warm_up_broker()
        return self._kafka

    def _warm_up_broker(self) -> None:
        """Give the JVM something to compile, so that the first round does not pay for it."""
        self.create_topics("warm-up")
        producer = Producer(
            {"bootstrap.servers": self.kafka.bootstrap, "acks": "all", "linger.ms": 0, "log_level": _LOG_ERRORS}
        )
        for number in range(self._warm_up_records):
            producer.produce("warm-up", bytes(600), str(number))
            if number % 20 == 0:
                producer.flush(10)
        if producer.flush(30):
            raise BenchFailed("the broker does not acknowledge")

    @property
    def postgres(self) -> PostgresServer:
        """A server that syncs to its disk as in production, started when first asked for."""
        if self._postgres is None:
            self._postgres = self._stack.enter_context(PostgresServer.start(settings={"fsync": "on"}))
        return self._postgres

    def new_database(self) -> str:
        """The address of an empty database on that server."""
        return self._stack.enter_context(self.postgres.new_database())

    def server_processes(self) -> dict[str, Sequence[int]]:
        """The processes of the broker (`kafka`) and the database (`postgres`), if they were started."""
        servers: dict[str, Sequence[int]] = {}
        if self._kafka is not None:
            servers["kafka"] = self._kafka.process_ids()
        if self._postgres is not None:
            # Its backends are children of the first, and counted with it.
            servers["postgres"] = self._postgres.process_ids()[:1]
        return servers

    def new_directory(self, name: str) -> Path:
        """An empty directory of the run."""
        self._runs += 1
        made = self.directory / f"{self._runs:03d}-{name}"
        made.mkdir()
        return made

    def create_topics(self, *names: str, partitions: int = 4) -> None:
        """On Kafka; those that exist are left as they are."""
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap, "log_level": _LOG_ERRORS})
        there = admin.list_topics(timeout=30).topics
        missing = [NewTopic(name, partitions, 1) for name in names if name not in there]
        for future in (admin.create_topics(missing) if missing else {}).values():
            future.result(30)

    def start(self, name: str, command: Sequence[str], *, ready_port: int | None = None) -> Program:
        """Start a program; with `ready_port`, return once it accepts connections there."""
        self._runs += 1
        log = self.directory / f"{self._runs:03d}-{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT
            )
        program = Program(name, process, log)
        self._programs.append(program)
        self._stack.callback(program.stop)
        if ready_port is not None:
            self.wait(lambda: accepts(ready_port), f"{name} to listen", within_seconds=_START_SECONDS, watch=[program])
        return program

    def load(self, job: Job) -> Result:
        """Run the generator."""
        self._runs += 1
        stem = self.directory / f"{self._runs:03d}-load"
        job_file, result_file = stem.with_suffix(".job"), stem.with_suffix(".result")
        job_file.write_bytes(msgspec.json.encode(job))
        done = subprocess.run(
            [sys.executable, "-m", "bench.load", str(job_file), str(result_file)],
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        if done.returncode != 0:
            raise BenchFailed(f"the load generator failed:\n{done.stderr[-3000:]}")
        result = msgspec.msgpack.decode(result_file.read_bytes(), type=Result)
        if result.refused:
            raise BenchFailed(f"{result.refused} of {job.count} requests refused, such as:\n{result.refusals[0]}")
        return result

    def wait(
        self,
        predicate: Callable[[], bool],
        what: str,
        *,
        within_seconds: float = 120.0,
        watch: Sequence[Program] = (),
    ) -> None:
        """Until it is true; fail when it takes too long or a watched program ends."""
        deadline = time.monotonic() + within_seconds
        while not predicate():
            for program in watch:
                program.check()
            if time.monotonic() > deadline:
                logs = "\n".join(f"{p.name}: {p.log.read_text()[-1000:]}" for p in watch)
                raise BenchFailed(f"waited {within_seconds:.0f} s in vain for {what}\n{logs}")
            time.sleep(_POLL_SECONDS)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether somebody listens on it."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
