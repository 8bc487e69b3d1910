"""A whole Pabal in this process: API, worker and delay line on one log, with the simulator as the far side."""

import asyncio
import contextlib
import hashlib
import tempfile
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import EVENT_SCHEMA, SCHEMA_HEADER, read_event
from pabal.compose.api import run_api
from pabal.compose.delayline import run_delayline
from pabal.compose.ledgers import adopt_ledger
from pabal.compose.listening import listen
from pabal.compose.monitor import run_monitor
from pabal.compose.parts import Parts, open_parts, reporting
from pabal.compose.recorder import run_recorder
from pabal.compose.topics import create_topics
from pabal.compose.worker import run_worker
from pabal.config import Settings
from pabal.notification import EVENTS_TOPIC, DeliveryEvent
from pabal.simulator import Simulator

KEY = "pabal_test"
OTHER_KEY = "pabal_test_other"
"""Of another tenant, `other`."""
SCOPES = ("send", "read", "admin")
SECRETS = tuple(
    f"whsec_{b64encode(text).decode()}" for text in (b"the newer secret of tests", b"the older secret of tests")
)


def settings_for(simulator: Simulator, **changes: Any) -> Settings:
    """Settings that send everything to the simulator; `changes` are top-level tables as in the TOML file, and
    further providers."""
    table: dict[str, Any] = {
        "api": {
            "keys": [
                {"tenant": tenant, "hash": hashlib.sha256(key.encode()).hexdigest(), "scopes": SCOPES}
                for tenant, key in (("shop", KEY), ("other", OTHER_KEY))
            ]
        },
        "tenants": {"shop": {"webhook_secrets": SECRETS}, "other": {"webhook_secrets": SECRETS}},
        "providers": {
            "webhook": {"allow": ["127.0.0.0/8"], "timeout_seconds": 2.0},
            "smtp": {
                "host": "127.0.0.1",
                "port": simulator.smtp_port,
                "tls": "none",
                "sender": "Shop <shop@example.com>",
                "receipt_secrets": SECRETS,
            },
            **changes.pop("providers", {}),
        },
        **changes,
    }
    return msgspec.convert(table, Settings)


class Installation:
    """Running roles, and what a test asks of them."""

    def __init__(self, parts: Parts, simulator: Simulator, address: str, http: aiohttp.ClientSession) -> None:
        self.parts = parts
        self.simulator = simulator
        self._address = address
        self._http = http
        self.asked: set[str] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, log_url: str, *, environment: Mapping[str, str] = {}, **changes: Any) -> AsyncIterator[Self]:
        """Start everything; at the end stop it as a signal would."""
        with tempfile.TemporaryDirectory() as folder:
            async with await Simulator.start() as simulator:
                settings = settings_for(simulator, **changes)
                opening = open_parts(settings, log_url=log_url, data=Path(folder), environment=environment)
                async with opening as parts:
                    await create_topics(parts, partitions=2, replication=None)
                    # The Kafka is shared with other tests, each of which has a ledger of its own.
                    await adopt_ledger(parts)
                    async with cls._roles(parts) as address, aiohttp.ClientSession() as http:
                        yield cls(parts, simulator, address, http)

    @staticmethod
    @contextlib.asynccontextmanager
    async def _roles(parts: Parts) -> AsyncIterator[str]:
        stopping = asyncio.Event()
        listening = listen("127.0.0.1", 0, option="--port")
        async with reporting(parts), asyncio.TaskGroup() as group:
            group.create_task(run_api(parts, stopping, listening=listening))
            group.create_task(run_worker(parts, stopping, name="test"))
            group.create_task(run_delayline(parts, stopping, name="test"))
            group.create_task(run_recorder(parts, stopping, name="test"))
            group.create_task(run_monitor(parts, stopping, name="test"))
            try:
                yield "http://{}:{}".format(*listening.getsockname()[:2])
            finally:
                stopping.set()

    async def exposed(self) -> str:
        """What `/metrics` says."""
        async with self._http.get(f"{self._address}/metrics") as answer:
            assert answer.status == 200
            return await answer.text()

    async def ask(
        self,
        body: Mapping[str, Any],
        *,
        key: str | None = None,
        trace: Mapping[str, str] = {},
        expect: int = 202,
        api_key: str = KEY,
    ) -> dict[str, Any]:
        """POST one notification and return the answer."""
        headers = {"Authorization": f"Bearer {api_key}"} | ({"Idempotency-Key": key} if key else {})
        headers |= trace
        async with self._http.post(f"{self._address}/v1/notifications", json=body, headers=headers) as answer:
            text = await answer.text()
            assert answer.status == expect, text
            accepted = dict(msgspec.json.decode(text))
            self.asked |= {delivery["id"] for delivery in accepted.get("deliveries", ())}
            return accepted

    @property
    def address(self) -> str:
        """Where the API listens."""
        return self._address

    async def call(self, method: str, path: str, *, body: object = None, expect: int = 200) -> Any:
        """Any other request; its answer."""
        headers = {"Authorization": f"Bearer {KEY}"}
        async with self._http.request(method, f"{self._address}{path}", json=body, headers=headers) as answer:
            text = await answer.text()
            assert answer.status == expect, text
            return msgspec.json.decode(text)

    async def until_status(self, delivery: str, status: str, *, within_seconds: float = 15.0) -> Any:
        """Wait until a delivery is told to stand there; how it is told then."""
        deadline = asyncio.get_running_loop().time() + within_seconds
        while True:
            view = await self.call("GET", f"/v1/deliveries/{delivery}?wait=4")
            if view["status"] == status:
                return view
            assert asyncio.get_running_loop().time() < deadline, f"not {status} within {within_seconds} s: {view}"
            await asyncio.sleep(0.02)

    async def ask_webhook(self, path: str = "/hook", **more: Any) -> dict[str, Any]:
        """POST one notification for one webhook at the simulator; returns its only delivery."""
        key, trace = more.pop("key", None), more.pop("trace", {})
        asked = {"to": [{"channel": "webhook", "address": f"{self.simulator.url}{path}"}], "class": "critical"}
        answer = await self.ask(asked | {"content": {"body": "hello"}} | more, key=key, trace=trace)
        [delivery] = answer["deliveries"]
        return dict(delivery)

    async def events(self, delivery: str) -> list[DeliveryEvent]:
        """What is told of a delivery so far, in order."""
        records = await self.records(EVENTS_TOPIC)
        told = (record for record in records if record.header(SCHEMA_HEADER) == EVENT_SCHEMA)
        events = [event for event in map(read_event, told) if str(event.delivery_id) == delivery]
        return sorted(events, key=lambda event: (event.at, event.attempt))

    async def records(self, topic: str) -> list[Record]:
        """Everything in a topic."""
        admin, reader = self.parts.broker.admin(), self.parts.broker.reader()
        try:
            return [
                record
                for partition in await admin.watermarks(topic)
                async for batch in reader.read(partition)
                for record in batch
            ]
        finally:
            await admin.close()
            await reader.close()

    async def append(self, record: NewRecord) -> None:
        """Put a record into the log as any other program could."""
        producer = self.parts.broker.producer()
        await producer.append([record])
        await producer.close()

    async def until_told(self, delivery: str, kind: str, *, within_seconds: float = 15.0) -> list[DeliveryEvent]:
        """Wait until an event of that kind is told of the delivery; returns all of its events."""
        deadline = asyncio.get_running_loop().time() + within_seconds
        while True:
            events = await self.events(delivery)
            if any(event.kind == kind for event in events):
                return events
            assert asyncio.get_running_loop().time() < deadline, f"no {kind} within {within_seconds} s: {events}"
            await asyncio.sleep(0.02)


def utc_now() -> datetime:
    """The wall clock, for requests with times."""
    return datetime.now(UTC)
