"""The API as it is served: the production server on a real socket, over a real log in a file.

Schemathesis, which knows only `/openapi.json`, tries to break what the document promises; a caller of ours sees that
what was answered stands in the log, and what a connection can do to an answer.
"""

import asyncio
import contextlib
import hashlib
import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from pabal.api import create_app
from pabal.broker.port import Record
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.channels.registry import installed_channels
from pabal.clock import SystemClock
from pabal.codec import read_delivery
from pabal.compose.listening import listen
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger
from pabal.policy import DEFAULT_CLASSES
from pabal.providers.port import ProviderContext, TakesReceipts
from pabal.providers.smtp import create as create_smtp
from pabal.serving.server import serve
from pabal.store.sql import SqlStore
from pabal.topics.spec import topics_for
from tests.api.lab import ALL_KEY as KEY
from tests.api.lab import SETTINGS, SHIPPED

GOOD = {"to": [{"channel": "webhook", "address": "https://example.com/hook"}], "content": {"title": "Hello"}}
HEADERS = {"Authorization": f"Bearer {KEY}"}
HEAD = (
    b"POST /v1/notifications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    + f"Authorization: Bearer {KEY}\r\n".encode()
)

CHECKS = """
# Waiting for ids that nobody made would be all there is time for.
[parameters]
wait = 0.01

# A document cannot say which addresses and ids exist, which times are to come or what is signed, so what fits it may
# still be refused, and a batch answers for the items it refuses with 207.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 401, 404, 409, 413, 422]

[[operations]]
include-path = "/v1/notifications/batch"
checks.negative_data_rejection.expected-statuses = [207, 400, 401, 413, 415, 422]
"""


def receiver() -> TakesReceipts:
    options = {
        "host": "x",
        "sender": "a@example.com",
        "receipt_secrets": ["whsec_YSBzZWNyZXQgYmV0d2VlbiB1cyBhbmQgdGhlIHJlbGF5"],
    }
    provider = create_smtp(options, ProviderContext(clock=SystemClock(), name="smtp"))
    assert isinstance(provider, TakesReceipts)
    return provider


class Live:
    """A served API and the log behind it."""

    def __init__(self, broker: SqliteBroker, port: int, http: aiohttp.ClientSession) -> None:
        self.broker = broker
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._http = http

    @classmethod
    @contextlib.asynccontextmanager
    async def served(cls, log: Path, *, with_topics: bool = True) -> AsyncIterator["Live"]:
        clock = SystemClock()
        broker = await SqliteBroker.open(log, clock=clock)
        admin = broker.admin()
        if with_topics:
            for spec in topics_for(installed_channels(), partitions=2, replication=None):
                await admin.create_topic(spec)
        store = SqlStore(f"sqlite:{log.with_name('store.db')}", clock=clock)
        ledgers: list[SqliteLedger] = []

        async def open_ledger() -> SqliteLedger:
            ledgers.append(await SqliteLedger.open(log.with_name("ledger.db"), clock=clock, worker="api"))
            return ledgers[-1]

        keys = (f"{hashlib.md5(str(number).encode()).hexdigest()}" for number in range(1_000_000))
        app = create_app(
            settings=msgspec.structs.replace(SETTINGS, append_timeout_seconds=5.0),
            producer=broker.producer(),
            admin=admin,
            channels=installed_channels(),
            classes=DEFAULT_CLASSES,
            templates={"order-shipped": SHIPPED},
            clock=clock,
            new_key=lambda: next(keys),
            reader=broker.reader(),
            store=store,
            open_ledger=open_ledger,
            receivers={"smtp": receiver()},
            tenants={},
        )
        listening = listen("127.0.0.1", 0, option="--port")
        stopping = asyncio.Event()
        serving = asyncio.create_task(serve(app, listening=listening, stopping=stopping))
        try:
            async with aiohttp.ClientSession(headers=HEADERS) as http:
                yield cls(broker, listening.getsockname()[1], http)
        finally:
            stopping.set()
            await serving
            for ledger in ledgers:
                await ledger.close()
            await store.close()
            await broker.close()

    async def post(self, body: object, *, path: str = "/v1/notifications") -> tuple[int, Any]:
        async with self._http.post(self.url + path, json=body) as response:
            return response.status, await response.json(content_type=None)

    async def get(self, path: str) -> tuple[int, Any]:
        async with self._http.get(self.url + path) as response:
            return response.status, await response.json(content_type=None)

    async def logged(self) -> list[Record]:
        """Every record in the log."""
        reader, admin = self.broker.reader(), self.broker.admin()
        records: list[Record] = []
        for topic in await admin.topics():
            for partition in await admin.watermarks(topic):
                async for batch in reader.read(partition):
                    records += batch
        return records


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async with Live.served(tmp_path / "log.db") as live:
        yield live


async def test_what_is_answered_with_202_stands_in_the_log(live: Live) -> None:
    status, single = await live.post(GOOD)
    batch_status, batch = await live.post(
        {"notifications": [GOOD, {**GOOD, "to": []}, GOOD]}, path="/v1/notifications/batch"
    )

    accepted = [single, batch["results"][0]["accepted"], batch["results"][2]["accepted"]]
    assert (status, batch_status) == (202, 207)
    assert {str(read_delivery(record).id) for record in await live.logged()} == {
        delivery["id"] for answer in accepted for delivery in answer["deliveries"]
    }


async def test_it_is_ready_over_a_log_with_topics(live: Live) -> None:
    assert await live.get("/readyz") == (200, {"status": "ready"})


async def test_without_topics_it_is_alive_but_not_ready_and_names_the_command(tmp_path: Path) -> None:
    async with Live.served(tmp_path / "log.db", with_topics=False) as live:
        alive, ready, post = await live.get("/healthz"), await live.get("/readyz"), await live.post(GOOD)

    assert alive[0] == 200
    for status, problem in (ready, post):
        assert (status, problem["code"]) == (503, "topics_missing")
        assert "pabal topics create" in problem["detail"]


async def test_callers_at_the_same_time_are_answered_each_their_own(live: Live) -> None:
    answers = await asyncio.gather(
        *(live.post({**GOOD, "to": [{"channel": "webhook", "address": f"https://example.com/{n}"}]}) for n in range(50))
    )

    assert [answer["deliveries"][0]["address"] for _, answer in answers] == [
        f"https://example.com/{n}" for n in range(50)
    ]


async def test_a_chunked_body_beyond_the_limit_is_refused_while_it_is_still_coming(live: Live) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    for _ in range(5):
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
    await writer.drain()

    status = await reader.readline()
    writer.close()
    assert status.startswith(b"HTTP/1.1 413 ")  # the words after it are Python's, and changed in 3.13


async def test_a_connection_that_breaks_in_the_body_leaves_no_trace(
    live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", live.port)
    writer.write(HEAD + b"Content-Length: 1000\r\n\r\n{")
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert await live.get("/healthz") == (200, {"status": "alive"})
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_schemathesis_finds_nothing_that_the_description_does_not_promise(
    live: Live, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "schemathesis.toml").write_text(CHECKS)

    run = await asyncio.create_subprocess_exec(
        *(str(Path(sys.executable).parent / "schemathesis"), "run", f"{live.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {KEY}", "--checks", "all", "--warnings", "off"),
        # What was accepted is found once the recorder has read it, and none runs here.
        *("--exclude-checks", "ensure_resource_availability"),
        *("--max-examples", "15", "--generation-deterministic", "--no-color"),
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await run.communicate()

    assert run.returncode == 0, output.decode()
    # The run was no empty one, and nothing was only saved by the outer boundary.
    assert await live.logged()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
