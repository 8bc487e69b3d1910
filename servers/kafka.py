"""A real Apache Kafka on this machine, without Docker: for contract tests, rehearsals and benchmarks.

::

    with KafkaCluster.start(directory, brokers=3) as cluster:
        broker = await KafkaBroker.open(cluster.bootstrap)
        cluster.kill(1)

Java 17 or newer runs it; Maven fetches the jars once, at the versions of the `kafka-pom.xml` beside this file,
into `PABAL_KAFKA_LIBS` (default `~/.cache/pabal/kafka-<version>`). A cluster lives no longer than the process
that started it, even when that process is killed.
"""

import base64
import contextlib
import fcntl
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

KAFKA_VERSION = "4.3.1"

START_DEADLINE_SECONDS = 60.0
"""A broker serves two to six seconds after its start on two free cores; a loaded CI machine takes longer."""

QUICK_START = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""JVM options for runs of minutes: half the CPU time to get going, a lower top speed. Benchmarks pass `()`."""


class KafkaMissing(Exception):
    """This machine lacks what it takes to run Kafka; the message says what."""


class KafkaStartFailed(Exception):
    """A broker did not come up; the message ends with the last lines it wrote."""


class KafkaCluster:
    """One or three brokers (each also a controller) on 127.0.0.1. Not safe for use from several threads."""

    def __init__(self, brokers: Sequence["_Broker"]) -> None:
        self._brokers = brokers

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        brokers: int = 1,
        settings: Mapping[str, str] | None = None,
        heap_mb: int = 512,
        jvm_options: Sequence[str] = QUICK_START,
    ) -> Self:
        """Format fresh storage under `directory`, start, and return once every broker serves.

        `settings` are broker properties that override those of `_properties`.

        Raises:
            KafkaMissing: no Java, or neither jars nor Maven.
            KafkaStartFailed: a broker ended or did not serve within `START_DEADLINE_SECONDS`.
        """
        java, libraries = _find_java(), fetch_libraries()
        ports = _free_ports(2 * brokers)
        voters = ",".join(f"{n + 1}@127.0.0.1:{ports[2 * n + 1]}" for n in range(brokers))
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        members = []
        for n in range(brokers):
            home = directory / f"broker-{n + 1}"
            own = _properties(node=n + 1, port=ports[2 * n], voters=voters, brokers=brokers, home=home)
            _write_settings(home, {**own, **(settings or {})})
            command = [
                java,
                f"-Xms{heap_mb // 4}m",
                f"-Xmx{heap_mb}m",
                *jvm_options,
                f"-Dlog4j2.configurationFile={home / 'log4j2.properties'}",
                "-cp",
                f"{libraries}/*",
            ]
            members.append(_Broker(command=command, home=home, port=ports[2 * n]))
        cluster = cls(members)
        try:
            for member in members:
                member.format(cluster_id=cluster_id)
            for member in members:
                member.launch()
            for member in members:
                member.wait_until_serving()
        except BaseException:
            cluster.stop()
            raise
        return cluster

    @property
    def bootstrap(self) -> str:
        """What a client is given as `bootstrap.servers`."""
        return ",".join(f"127.0.0.1:{member.port}" for member in self._brokers)

    def kill(self, broker: int) -> None:
        """End a broker (0 is the first) by SIGKILL."""
        self._brokers[broker].kill()

    def restart(self, *brokers: int) -> None:
        """Start killed brokers again on their storage and ports; return once they serve.

        Brokers that are needed for a quorum have to be named together: no broker serves without it.
        """
        for broker in brokers:
            self._brokers[broker].launch()
        for broker in brokers:
            self._brokers[broker].wait_until_serving()

    def pause(self, broker: int) -> None:
        """Freeze a broker by SIGSTOP: its connections stay open and nothing answers."""
        self._brokers[broker].signal(signal.SIGSTOP)

    def resume(self, broker: int) -> None:
        """Let a frozen broker go on."""
        self._brokers[broker].signal(signal.SIGCONT)

    def process_ids(self) -> Sequence[int]:
        """The running brokers' process ids, to measure what they use."""
        return [member.process.pid for member in self._brokers if member.process is not None]

    def run_tool(self, main_class: str, *arguments: str) -> str:
        """What one of Kafka's own command-line programs prints. It is told where this cluster is.

        Raises:
            subprocess.CalledProcessError: it failed; `stderr` says why.
        """
        classes = ["-cp", f"{fetch_libraries()}/*", main_class]
        command = [_find_java(), *QUICK_START, *classes, "--bootstrap-server", self.bootstrap, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)  # noqa: S603
        return done.stdout

    def stop(self) -> None:
        """End every broker at once (SIGKILL: the storage is not meant to be used again). Idempotent."""
        for member in self._brokers:
            member.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def missing() -> str | None:
    """Why no Kafka can be started here, or None. Does not fetch anything."""
    try:
        _find_java()
        if not _is_complete(_library_folder()):
            _find_maven()
    except KafkaMissing as error:
        return str(error)
    return None


def fetch_libraries() -> Path:
    """The folder with Kafka's jars, fetched by Maven if need be (about 54 MB). Safe for several processes.

    Raises:
        KafkaMissing: they are not there and Maven is missing or cannot fetch them.
    """
    folder = _library_folder()
    if _is_complete(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_complete(folder):
            return folder
        command = [_find_maven(), "-q", "-B", "-f", str(Path(__file__).with_name("kafka-pom.xml"))]
        command += ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
        fetched = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if fetched.returncode != 0:
            raise KafkaMissing(f"mvn could not fetch Kafka's jars:\n{fetched.stdout}{fetched.stderr}")
        (folder / _COMPLETE).touch()
    return folder


_COMPLETE = ".complete"
_SERVING = "Kafka Server started"

_LOG4J = """\
appender.file.type=File
appender.file.name=file
appender.file.fileName={file}
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d %p %m (%c)%n
rootLogger.level=INFO
rootLogger.appenderRef.file.ref=file
"""


class _Broker:
    """One broker's process, storage and port."""

    def __init__(self, *, command: Sequence[str], home: Path, port: int) -> None:
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._command = command
        self._home = home
        self._log = home / "server.log"
        self._log_start = 0

    def format(self, *, cluster_id: str) -> None:
        # In one word, because an id may begin with a dash.
        arguments = ["kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}", "-c", self._properties]
        done = subprocess.run([*self._command, *arguments], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            raise KafkaStartFailed(f"formatting {self._home} failed:\n{done.stdout}{done.stderr}")

    def launch(self) -> None:
        self.kill()
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        with (self._home / "console.log").open("ab") as console:
            # A session of its own: Ctrl-C in a terminal must not end the broker before the tests are done with it.
            self.process = subprocess.Popen(  # noqa: S603
                [*self._command, "kafka.Kafka", self._properties],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        # Its `read` ends when our end of the pipe closes, which the kernel does even for a killed process.
        self._watchdog = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", 'read -r _; kill -9 "$0"', str(self.process.pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_until_serving(self) -> None:
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while _SERVING not in self._written():
            if self.process is None or self.process.poll() is not None or time.monotonic() > deadline:
                console = (self._home / "console.log").read_text()
                raise KafkaStartFailed(
                    f"the broker of {self._home} did not come up:\n{console[-2000:]}{self._written()[-4000:]}"
                )
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        if self.process is None:
            raise RuntimeError("this broker is not running")
        self.process.send_signal(number)

    def kill(self) -> None:
        # The watchdog first: it must never shoot at a process id that another process has by now.
        for process in (self._watchdog, self.process):
            if process is not None:
                process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
        self._watchdog = self.process = None

    @property
    def _properties(self) -> str:
        return str(self._home / "server.properties")

    def _written(self) -> str:
        """What the broker logged since its last launch."""
        if not self._log.exists():
            return ""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")


def _write_settings(home: Path, properties: Mapping[str, str]) -> None:
    """The files that a broker reads at its start."""
    home.mkdir(parents=True)
    (home / "server.properties").write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    (home / "log4j2.properties").write_text(_LOG4J.format(file=home / "server.log"))


def _properties(*, node: int, port: int, voters: str, brokers: int, home: Path) -> dict[str, str]:
    controller = voters.split(",")[node - 1].rpartition(":")[2]
    copies, in_sync = str(brokers), str(max(1, brokers - 1))
    return {
        "process.roles": "broker,controller",
        "node.id": str(node),
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(home / "data"),
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        # Kafka's own default, kept so that a client that creates topics by accident is found out.
        "auto.create.topics.enable": "true",
        # Failures are noticed, and deletions and compactions done, within the patience of a test.
        "broker.session.timeout.ms": "3000",
        "broker.heartbeat.interval.ms": "500",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "group.consumer.min.session.timeout.ms": "1000",
        "group.consumer.session.timeout.ms": "3000",
        "group.consumer.min.heartbeat.interval.ms": "100",
        "group.consumer.heartbeat.interval.ms": "300",
        "log.initial.task.delay.ms": "500",
        "log.retention.check.interval.ms": "500",
        "log.segment.delete.delay.ms": "500",
        "log.cleaner.backoff.ms": "300",
    }


def _library_folder() -> Path:
    default = Path.home() / ".cache" / "pabal" / f"kafka-{KAFKA_VERSION}"
    return Path(os.environ.get("PABAL_KAFKA_LIBS") or default)


def _is_complete(folder: Path) -> bool:
    return (folder / _COMPLETE).exists()


def _find_java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java") or (home and shutil.which(f"{home}/bin/java"))
    if not java:
        raise KafkaMissing("Java is not installed (17 or newer runs Kafka)")
    return java


def _find_maven() -> str:
    maven = shutil.which("mvn")
    if not maven:
        raise KafkaMissing(f"Maven (mvn) is not installed, and {_library_folder()} has no jars of Kafka")
    return maven


def _free_ports(count: int) -> Sequence[int]:
    """Free ports, below the range from which the kernel takes the ports of outgoing connections."""
    ports: list[int] = []
    with contextlib.ExitStack() as held:
        while len(ports) < count:
            port = random.randint(20000, 32000)
            candidate = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # taken: try another
                candidate.bind(("127.0.0.1", port))
                ports.append(port)
    return ports
