"""An API without a network: the real application, called the way a server calls it, over a log that only remembers.

What concerns the log itself is tested over a real one (`test_live.py`); here it is enough to see what is appended,
and to say how an append ends.
"""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.types import ASGIApp

from pabal.api import create_app
from pabal.broker.port import Broker, NewRecord, Position, Record, TopicPartition, Watermarks
from pabal.channels.registry import installed_channels
from pabal.clock import ManualClock
from pabal.codec import read_delivery
from pabal.config import ApiKey, ApiSettings, TenantSettings
from pabal.errors import LedgerUnavailable, RecordRefused
from pabal.ledger.port import Ledger
from pabal.notification import Delivery
from pabal.policy import DEFAULT_CLASSES
from pabal.providers.port import TakesReceipts
from pabal.rendering import Renders
from pabal.store.port import Store
from pabal.template import Template, parse_template
from tests.api.declared import is_declared

KEY, READ_KEY, OTHER_KEY, ADMIN_KEY, ALL_KEY = "send-key", "read-key", "other-tenant-key", "admin-key", "all-key"
SHIPPED = parse_template("order-shipped", 'title = "Order {{ order }}"\nbody = "On its way."', path="t.toml")


def api_key(key: str, *, tenant: str = "shop", scopes: tuple[Any, ...] = ("send",)) -> ApiKey:
    return ApiKey(tenant=tenant, hash=hashlib.sha256(key.encode()).hexdigest(), scopes=scopes)


SETTINGS = ApiSettings(
    keys=(
        api_key(KEY),
        api_key(READ_KEY, scopes=("read",)),
        api_key(OTHER_KEY, tenant="bank", scopes=("send", "read", "admin")),
        api_key(ADMIN_KEY, scopes=("admin",)),
        api_key(ALL_KEY, scopes=("send", "read", "operator")),
    ),
    append_timeout_seconds=0.05,
)


class Memory:
    """Remembers what is appended. `fails` is raised instead; `hangs` never answers; `refuses` is a text that no record
    may hold: of those that do it names one at a time."""

    def __init__(self) -> None:
        self.appends: list[Sequence[NewRecord]] = []
        self.fails: Exception | None = None
        self.hangs = False
        self.refuses: bytes | None = None

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        if self.fails is not None:
            raise self.fails
        if self.hangs:
            await asyncio.Event().wait()
        for index, record in enumerate(records):
            if self.refuses is not None and self.refuses in (record.value or b""):
                raise RecordRefused("too large", indexes=[index])
        self.appends.append(records)
        return [Position(record.topic, 0, index) for index, record in enumerate(records)]

    async def close(self) -> None:
        pass

    @property
    def records(self) -> list[NewRecord]:
        return [record for append in self.appends for record in append]

    @property
    def deliveries(self) -> list[Delivery]:
        return [read_delivery(as_record(record)) for record in self.records]


def as_record(record: NewRecord) -> Record:
    return Record(
        topic=record.topic,
        partition=0,
        offset=0,
        timestamp=0.0,
        key=record.key,
        value=record.value,
        headers=record.headers,
    )


class Leaders:
    """An admin client as far as readiness asks one: it counts the questions, and fails or hangs when told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fails: Exception | None = None
        self.hangs = False

    async def check_writable(self, topics: Collection[str]) -> None:
        await asyncio.gather(*(self.watermarks(topic) for topic in topics))

    async def watermarks(self, topic: str) -> Mapping[TopicPartition, Watermarks]:
        self.asked.append(topic)
        if self.fails is not None:
            raise self.fails
        if self.hangs:
            await asyncio.Event().wait()
        return {TopicPartition(topic, 0): Watermarks(0, 0)}


class Nothing:
    """A reader of empty topics."""

    async def read(self, partition: TopicPartition, **bounds: object) -> AsyncIterator[Sequence[Record]]:
        return
        yield []

    async def close(self) -> None:
        pass


async def no_ledger() -> Ledger:
    raise LedgerUnavailable("there is none here")


class Reply(msgspec.Struct, frozen=True):
    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.content)


class Lab:
    """The application and what it is handed."""

    def __init__(
        self,
        *,
        templates: Mapping[str, Template] | None = None,
        settings: ApiSettings = SETTINGS,
        receivers: Mapping[str, TakesReceipts] | None = None,
        tenants: Mapping[str, TenantSettings] | None = None,
        broker: Broker | None = None,
        store: Store | None = None,
        ledger: Ledger | Exception | None = None,
        clock: ManualClock | None = None,
        apart: Renders | None = None,
        ailments: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """`broker`: a real log instead of one that only remembers. `ledger`: an error is what opening it raises."""
        self.log = Memory()
        self.leaders = Leaders()
        self.clock = clock or ManualClock()
        self.sent: list[dict[str, Any]] = []
        numbers = itertools.count(1)

        async def opened() -> Ledger:
            if ledger is None or isinstance(ledger, Exception):
                raise ledger or LedgerUnavailable("there is none here")
            return ledger

        self.app: ASGIApp = create_app(
            settings=settings,
            producer=broker.producer() if broker else self.log,
            admin=broker.admin() if broker else self.leaders,  # type: ignore[arg-type]  # asked for watermarks alone
            channels=installed_channels(),
            classes=DEFAULT_CLASSES,
            templates={"order-shipped": SHIPPED} if templates is None else templates,
            clock=self.clock,
            new_key=lambda: f"made-{next(numbers)}",
            reader=broker.reader() if broker else Nothing(),
            store=store,
            open_ledger=opened,
            receivers={} if receivers is None else receivers,
            tenants={} if tenants is None else tenants,
            apart=apart,
            ailments=ailments,
        )

    async def post(
        self,
        body: object,
        *,
        path: str = "/v1/notifications",
        key: str | None = KEY,
        idempotency_key: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        content_type: str | None = "application/json",
    ) -> Reply:
        """`body`: bytes as they are, a list of bytes as chunks, anything else as JSON."""
        fields = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers]
        if key is not None:
            fields.append((b"authorization", f"Bearer {key}".encode()))
        if idempotency_key is not None:
            fields.append((b"idempotency-key", idempotency_key.encode("latin-1")))
        if content_type is not None:
            fields.append((b"content-type", content_type.encode()))
        match body:
            case list() if body and all(isinstance(chunk, bytes) for chunk in body):
                chunks = body
            case bytes():
                chunks = [body]
            case _:
                chunks = [msgspec.json.encode(body)]
        return await self.call("POST", path, headers=fields, chunks=chunks)

    async def get(self, path: str, *, key: str | None = None) -> Reply:
        return await self.ask("GET", path, key=key)

    async def ask(self, method: str, path: str, *, key: str | None) -> Reply:
        """A request without a body; `path` may have a query."""
        headers = [] if key is None else [(b"authorization", f"Bearer {key}".encode())]
        return await self.call(method, path, headers=headers, chunks=[b""])

    async def call(
        self, method: str, path: str, *, headers: Sequence[tuple[bytes, bytes]], chunks: Sequence[bytes]
    ) -> Reply:
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": chunk, "more_body": index < len(chunks)}
            for index, chunk in enumerate(chunks, start=1)
        ]
        sent = await self.exchange(method, path, headers=headers, messages=messages)
        start, *bodies = sent
        reply = Reply(
            status=start["status"],
            headers={name.decode(): value.decode() for name, value in start["headers"]},
            content=b"".join(message.get("body", b"") for message in bodies),
        )
        if reply.status >= 400:
            code, place = reply.json["code"], unquote(path.partition("?")[0])
            assert is_declared(method, place, status=reply.status, code=code), f"{method} {place} answers {code}"
        return reply

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Sequence[tuple[bytes, bytes]],
        messages: list[dict[str, Any]],
    ) -> list[dict[str, Any]]:
        """What the application sends when it receives these messages; after the last nothing more comes."""
        sent = self.sent = []
        path, _, query = path.partition("?")

        async def receive() -> dict[str, Any]:
            if not messages:
                await asyncio.Event().wait()
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode("latin-1", "replace"),
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        await self.app(scope, receive, send)
        return sent
