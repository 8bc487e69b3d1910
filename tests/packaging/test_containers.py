"""The Dockerfile and compose.yaml, without an engine: linted, read, and what they run is run here.

An image is not built and no container started: that needs a Docker engine. What stays open is what only an engine
says: that the base images exist under these names, and that the names of services resolve.
"""

import asyncio
import contextlib
import functools
import hashlib
import os
import re
import secrets
import shutil
import subprocess
import sys
from asyncio.subprocess import DEVNULL, Process
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import aiohttp
import pytest
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]
from servers.kafka import KAFKA_VERSION, KafkaCluster, KafkaMissing, missing

from tests.conftest import skip_without_kafka
from tests.flow.processes import free_port
from tests.packaging.container_files import ROOT, Service, entrypoint, read_compose, read_dockerfile, variables
from tests.waiting import eventually_told

KEY = "pabal_test"
VALUES = {
    "PABAL_DATABASE_PASSWORD": "not-used-here",
    "PABAL_KEY_HASH": hashlib.sha256(KEY.encode()).hexdigest(),
    "PABAL_WEBHOOK_SECRET": f"whsec_{b64encode(secrets.token_bytes(32)).decode()}",
}
PABAL = str(Path(sys.executable).parent / "pabal")
DOCS = (ROOT / "docs" / "docker.md").read_text()


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_the_dockerfile_copies_is_there_and_not_ignored() -> None:
    copies = [each.rest.split() for each in read_dockerfile() if each.word == "COPY" and "--from" not in each.rest]
    sources = {source for *named, _ in copies for source in named}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()

    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == sources
    assert "*" in ignored
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_image_does_not_run_as_root() -> None:
    users = [each.rest for each in read_dockerfile() if each.word == "USER" and each.stage == 1]

    assert users == ["10001:10001"]


def test_compose_holds_no_secret_and_the_docs_say_how_to_make_each() -> None:
    assert variables() == VALUES.keys()
    assert [name for name in variables() if f"{name}=" not in DOCS] == []


def test_the_brokers_image_is_the_version_that_is_tested() -> None:
    assert read_compose(VALUES)["kafka"].image == f"apache/kafka:{KAFKA_VERSION}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_images_build_runs_and_gives_a_pabal_that_needs_no_clone(tmp_path: Path) -> None:
    """Each RUN of the first stage, in a folder with nothing but what was copied: all of the lock, from the registry."""
    context, place = tmp_path / "build", tmp_path / "pabal"
    context.mkdir()
    bare = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    for each in [each for each in read_dockerfile() if each.stage == 0]:
        match each.word:
            case "COPY":
                *sources, target = each.rest.split()
                for source in sources:
                    _copy(ROOT / source, context / target / ("" if target != "./" else source))
            case "RUN":
                # The cache is not part of what is shown here, and the registry need not be asked twice.
                command = each.rest.replace("/opt/pabal", str(place)).replace("--no-cache-dir ", "")
                command = re.sub(r"^python ", f"{sys.executable} ", command)
                done = subprocess.run(command, shell=True, cwd=context, env=bare, capture_output=True, text=True)
                if done.returncode != 0 and "Failed to establish a new connection" in done.stderr and "CI" not in bare:
                    pytest.skip(f"no registry to install from: {done.stderr}")
                assert done.returncode == 0, done.stdout + done.stderr
            case _:
                pass
    shutil.rmtree(context)

    said = subprocess.run([place / "bin/pabal", "--version"], capture_output=True, text=True, env=bare)

    assert re.fullmatch(r"pabal, version \S+\n", said.stdout), said.stderr


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


class Composed:
    """The services of compose.yaml as processes of this machine, on a real Kafka and a real PostgreSQL.

    What is changed is where things are: the log's and the database's address, the ports, the configuration's path.
    """

    def __init__(self, folder: Path, *, bootstrap: str, database: str) -> None:
        self.api = free_port()
        self._smtp = free_port()
        self._folder = folder
        (folder / "data").mkdir()
        config = (ROOT / "docker" / "pabal.toml").read_text()
        config = config.replace('"simulator"', '"127.0.0.1"').replace("port = 9025", f"port = {self._smtp}")
        (folder / "pabal.toml").write_text(config)
        self._changed = {
            "PABAL_LOG": f"kafka://{bootstrap}",
            "PABAL_CONFIG": str(folder / "pabal.toml"),
            "PABAL_DATABASE": database,
        }
        self.control = free_port()
        self._status_ports: dict[str, int] = {}
        self._running: list[Process] = []

    @contextlib.asynccontextmanager
    async def up(self, services: Mapping[str, Service]) -> AsyncIterator[None]:
        """Start them in the order that they wait for each other; end them as an engine does."""
        started: set[str] = {"kafka", "postgres"}
        try:
            while waiting := [each for each in services.values() if each.name not in started]:
                ready = [each for each in waiting if each.after.keys() <= started]
                assert ready, f"each waits for another: {waiting}"
                for service in ready:
                    await self._start(service)
                    started.add(service.name)
            yield
        finally:
            for process in self._running:
                if process.returncode is None:
                    process.terminate()
            for process in self._running:
                await asyncio.wait_for(process.wait(), 30)

    async def _start(self, service: Service) -> None:
        assert entrypoint() == ["pabal"]
        # `PABAL_DATA` is the image's.
        own = {**service.environment, **self._changed, "PABAL_DATA": str(self._folder / "data")}
        environment = {"PATH": os.environ["PATH"], **own}
        with (self._folder / f"{service.name}.log").open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                PABAL,
                *self._here(service),
                env=environment,
                cwd=self._folder,
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
            )
        if service.ends:
            assert await process.wait() == 0, self.printed()
        else:
            self._running.append(process)

    def _here(self, service: Service) -> Sequence[str]:
        """Its arguments, on ports that are free here."""
        if service.name == "simulator":
            ports = ["--port", "0", "--smtp-port", str(self._smtp), "--control-port", str(self.control)]
            return [*service.command, *ports]
        here = {"0.0.0.0": "127.0.0.1", "8080": str(self.api), "8081": str(self._status_port(service))}
        return [here.get(word, word) for word in service.command]

    def _status_port(self, service: Service) -> int:
        """In a container every role has 8081 for itself; here each needs a port of its own."""
        return self._status_ports.setdefault(service.name, free_port())

    async def is_healthy(self, service: Service) -> bool:
        """Its health check, as the engine would run it."""
        kind, program, *arguments = service.health
        assert (kind, program) == ("CMD", "python")
        ports = {":8080": f":{self.api}", ":8081": f":{self._status_port(service)}"}
        check = [re.sub(r":808[01]", lambda found: ports[found[0]], argument) for argument in arguments]
        process = await asyncio.create_subprocess_exec(sys.executable, *check, stdout=DEVNULL, stderr=DEVNULL)
        return await process.wait() == 0

    def ended(self) -> Sequence[int]:
        """How those that should run on have ended."""
        return [process.returncode for process in self._running if process.returncode is not None]

    def data(self) -> Sequence[Path]:
        """What was written into the data folder, which no volume holds."""
        return list((self._folder / "data").iterdir())

    def printed(self) -> str:
        """Everything that was printed, for a failure's message."""
        return "\n".join(f"== {file.name}\n{file.read_text()}" for file in sorted(self._folder.glob("*.log")))


@pytest.mark.slow
@pytest.mark.kafka
@pytest.mark.timeout(180)
async def test_composes_services_send_a_mail_and_tell_of_it(tmp_path: Path, postgres_url: str) -> None:
    services = read_compose(VALUES)
    brokers = _properties(services["kafka"])
    ours = {name: service for name, service in services.items() if service.image == "pabal:local"}
    with _kafka(tmp_path / "kafka", brokers) as cluster:
        known = _known_properties(cluster.bootstrap)
        composed = Composed(tmp_path, bootstrap=cluster.bootstrap, database=postgres_url)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with composed.up(ours), aiohttp.ClientSession(headers=headers) as http:
            for service in services.values():
                if service.health and service.image == "pabal:local":
                    await eventually_told(functools.partial(composed.is_healthy, service), within_seconds=60)
            body = {
                "to": [{"channel": "email", "address": "ana@example.com"}],
                "class": "critical",
                "content": {"title": "Order 17 shipped", "body": "It arrives tomorrow."},
            }
            async with http.post(f"http://127.0.0.1:{composed.api}/v1/notifications", json=body) as answer:
                assert answer.status == 202, await answer.text()
                delivery = (await answer.json())["deliveries"][0]["id"]

            async def is_sent() -> bool:
                assert composed.ended() == [], composed.printed()
                async with http.get(f"http://127.0.0.1:{composed.api}/v1/deliveries/{delivery}?wait=4") as answer:
                    return answer.status == 200 and (await answer.json())["status"] == "sent"

            await eventually_told(is_sent, within_seconds=60)
            async with http.get(f"http://127.0.0.1:{composed.control}/_control/counts") as answer:
                counts = await answer.json()
            ended = composed.ended()

    assert counts["received"] == 1
    assert ended == []
    assert composed.data() == []
    assert brokers.keys() - known == set()


@contextlib.contextmanager
def _kafka(folder: Path, properties: Mapping[str, str]) -> Iterator[KafkaCluster]:
    """A broker with the settings of compose.yaml, but for where it is."""
    if reason := missing():
        skip_without_kafka(reason)
    here = {name: value for name, value in properties.items() if not re.search("listener|voters|log.dirs", name)}
    try:
        cluster = KafkaCluster.start(folder, settings=here)
    except KafkaMissing as error:
        skip_without_kafka(str(error))
    with cluster:
        yield cluster


def _properties(broker: Service) -> Mapping[str, str]:
    """The broker's settings: the image makes `log.dirs` of `KAFKA_LOG_DIRS`."""
    named = {name: value for name, value in broker.environment.items() if name.startswith("KAFKA_")}
    return {name.removeprefix("KAFKA_").replace("_", ".").lower(): value for name, value in named.items()}


def _known_properties(bootstrap: str) -> set[str]:
    client = AdminClient({"bootstrap.servers": bootstrap})
    resource = ConfigResource(ConfigResource.Type.BROKER, "1")
    return set(client.describe_configs([resource])[resource].result(30))
