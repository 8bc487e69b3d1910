"""Damaged bodies, queries and paths on every operation that the OpenAPI document tells of."""

import asyncio
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from attack.examples import damaged, example_of
from attack.size import Size
from attack.target import NothingAttacked, Target

_ANSWER_SECONDS = 30.0
_AT_ONCE = 8
_SEED = 20_261_130
_METHODS = ("get", "post", "put", "patch", "delete")


class ServerFailed(Exception):
    """The target answered 500, or not at all."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation of the document. `body`: one that fits (None: it takes none); `queries` by name."""

    method: str
    path: str
    body: bytes | None
    queries: Mapping[str, str]

    @property
    def name(self) -> str:
        """As people say it."""
        return f"{self.method.upper()} {self.path}"


def operations_of(document: Mapping[str, Any]) -> Iterator[Operation]:
    """Every operation of an OpenAPI 3.1 document, with a body that fits its schema."""
    components = document.get("components", {}).get("schemas", {})
    for path, told in document["paths"].items():
        for method in _METHODS:
            if method not in told:
                continue
            parameters = [*told.get("parameters", []), *told[method].get("parameters", [])]
            values = {each["name"]: str(example_of(each.get("schema", {}), components)) for each in parameters}
            inside = {each["name"] for each in parameters if each["in"] == "path"}
            filled = path
            for name in inside:
                filled = filled.replace("{" + name + "}", quote(values[name], safe=""))
            yield Operation(
                method=method,
                path=filled,
                body=_body_of(told[method], components),
                queries={each["name"]: values[each["name"]] for each in parameters if each["in"] == "query"},
            )


def _body_of(operation: Mapping[str, Any], components: Mapping[str, Any]) -> bytes | None:
    content = operation.get("requestBody", {}).get("content", {})
    for told in content.values():
        if "example" in told:
            return msgspec.json.encode(told["example"])
        return msgspec.json.encode(example_of(told.get("schema", {}), components))
    return None


async def damaged_requests(target: Target, size: Size) -> int:
    """On every operation: damaged bodies, queries and path segments.

    Raises ServerFailed for a 500 or an answer that is late, NothingAttacked where an operation answered nothing at all.
    """
    connector = aiohttp.TCPConnector(limit=_AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(_ANSWER_SECONDS)) as http:
        async with http.get(f"{target.url}/openapi.json") as answer:
            document = msgspec.json.decode(await answer.read())
        tried = 0
        for number, operation in enumerate(operations_of(document)):
            random = Random(_SEED + number)
            answered = 0
            for _ in range(0, size.bodies_per_operation, _AT_ONCE):
                answered += sum(await asyncio.gather(*(_try(http, target, operation, random) for _ in range(_AT_ONCE))))
                tried += _AT_ONCE
            if not answered:
                raise NothingAttacked(f"{operation.name}: none of {size.bodies_per_operation} requests was answered")
    return tried


async def _try(http: aiohttp.ClientSession, target: Target, operation: Operation, random: Random) -> bool:
    """Whether the target answered. Raises ServerFailed for a 500, and for an answer that did not come in time."""
    key = random.choice((target.key, target.operator_key))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    body = operation.body
    if body is not None and random.random() < 0.95:
        body = damaged(body, random)
    url = target.url + operation.path
    if body is None and random.random() < 0.5:
        url = f"{target.url}{operation.path.rpartition('/')[0]}/{_wild(random)}"
    chosen = {name: _wild(random) for name in operation.queries if random.random() < 0.3}
    query = "&".join(f"{quote(name)}={value}" for name, value in chosen.items())
    try:
        async with http.request(
            operation.method.upper(), URL(f"{url}?{query}" if query else url, encoded=True), data=body, headers=headers
        ) as answer:
            told = await answer.read()
            if answer.status >= 500 and answer.status != 503:
                raise ServerFailed(
                    f"{operation.name}?{query} answered {answer.status} to {body!r:.2000}: {told!r:.500}"
                )
    except TimeoutError:
        raise ServerFailed(f"{operation.name}?{query} was not answered: {body!r:.2000}") from None
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
        return False  # A refused request may be answered and its connection closed before the body is sent.
    return True


def _wild(random: Random) -> str:
    """A percent-encoded value as strangers send them."""
    values = (
        "-1",
        "0",
        "1e308",
        "nan",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59.9999999Z",
        "a\n",
        "\x00",
        "\x1b[31m",
        "é" * 50,
        "x" * 3000,
        "../..",
        "00000000-0000-4000-8000-000000000000",
        "0.01",
        "email",
        "'; DROP TABLE deliveries; --",
    )
    return quote(random.choice(values), safe="") if random.random() < 0.9 else "%ff%fe"
