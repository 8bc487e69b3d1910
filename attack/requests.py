"""Well-formed requests that cost more than they look: long polls, large batches, greedy templates, odd receipts."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec
from standardwebhooks import Webhook

from attack.bodies import ServerFailed
from attack.size import Size
from attack.target import NothingAttacked, Target

_ANSWER_SECONDS = 60.0
_BATCH = 500


async def long_polls(target: Target, size: Size) -> int:
    """Look-ups that wait, for deliveries that nobody has made."""
    paths = [f"/v1/deliveries/{uuid4()}?wait=1" for _ in range(size.requests)]
    await _ask_all(target, [("GET", path, None) for path in paths])
    return len(paths)


async def long_addresses(target: Target, size: Size) -> int:
    """Batches filled up to their limits with addresses that are as long as they may be, and longer."""
    batches = max(1, size.requests // 60)
    labels = ".".join(["x" * 63] * 3)
    addresses = (f"{'a' * 64}@{labels}.example", f"{'a' * 8000}@example.com", "é" * 4000 + "@example.com", "@" * 8000)
    for number in range(batches):
        address = addresses[number % len(addresses)]
        items = [_email(address) for _ in range(min(_BATCH, 4_000_000 // (len(address.encode()) + 200)))]
        await _ask_all(target, [("POST", "/v1/notifications/batch", {"notifications": items})])
    for scheme in ("http://127.0.0.1/", "http://" + "a." * 4000, "http://[" + ":" * 8000, "http://a/" + "%41" * 2500):
        items = [_webhook(scheme + "x" * (200 if len(scheme) > 1000 else 7000)) for _ in range(400)]
        await _ask_all(target, [("POST", "/v1/notifications/batch", {"notifications": items})])
    return batches + 4


async def greedy_templates(target: Target, size: Size) -> int:
    """A template that is given more than it was made for: long lists, long texts, deep and odd data."""
    data: Sequence[Mapping[str, Any]] = (
        {"order": 1, "name": "x" * 500_000, "items": ["y"] * 10_000},
        {"order": 10**300, "name": "x", "items": list(range(100_000))},
        {"order": 1, "name": "x", "items": [["z"] * 1000] * 100},
        {"order": 1, "name": "\u202e\x1b[31m", "items": ["a" * 100_000] * 5},
        {"order": None, "name": True, "items": {}},
    )
    asked = 0
    for _ in range(max(1, size.requests // 20)):
        for each in data:
            body = {"to": _email("ana@example.com")["to"], "template": "order", "data": each}
            await _ask_all(target, [("POST", "/v1/notifications", body)])
            asked += 1
    return asked


async def odd_receipts(target: Target, size: Size) -> int:
    """Signed reports of a relay, with times, ids and kinds that no delivery ever had."""
    times = ("9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z", "2262-04-12T00:00:00Z", "2026-02-30T00:00:00Z", "")
    reports = [
        {"delivery": str(uuid4()), "kind": kind, "at": at, "recipient": "a@example.com", "detail": detail}
        for at in times
        for kind in ("bounced", "delivered", "complained", "odd", "")
        for detail in ("x" * 5000, "\x1b[31m\u202e", None)
    ]
    asked = 0
    async with _session(target) as http:
        for _ in range(max(1, size.requests // len(reports))):
            for report in reports:
                body = msgspec.json.encode({"receipts": [report], "type": report["kind"], "data": report, **report})
                await _post_signed(http, target, body)
                await _post_signed(http, target, body[:-1] + b',"ignored":"\xff\xfe"}')
                asked += 2
    return asked


async def greedy_redrives(target: Target, size: Size) -> int:
    """Redrives with paces that would take for ever, plans that name anything, and times out of the calendar."""
    numbers = (1e-300, 1e308, 0, -1, 10**400, 1e-9)
    asks: list[tuple[str, str, Any]] = []
    for pace in numbers:
        plan = {"per_second": pace, "patience_seconds": pace, "canary": pace}
        asks.append(("POST", "/v1/redrives", {"plan": {"id": "a\n", **plan}, "reason": "x", **plan}))
        asks.append(("POST", "/v1/redrives", {"plan": {"id": "a", **plan}, "reason": "x" * 100_000, **plan}))
    asks += [("GET", f"/v1/{what}?since=0001-01-01T00:00:00Z", None) for what in ("dead-letters", "redrives")]
    asks += [("GET", f"/v1/dead-letters?since={quote}", None) for quote in ("0001-01-01T00%3A00%3A00%2B23:59", "-1")]
    await _ask_all(target, asks * max(1, size.requests // 60))
    return len(asks)


async def _post_signed(http: aiohttp.ClientSession, target: Target, body: bytes) -> None:
    now = datetime.now(UTC)
    # The library signs text; bytes that are none are signed as what they decode to, and must be refused in words.
    signature = Webhook(target.secret).sign(f"msg_{now.timestamp()}", now, body.decode(errors="replace"))
    headers = {
        "webhook-id": f"msg_{now.timestamp()}",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    async with http.post(f"{target.url}/v1/receipts/smtp", data=body, headers=headers) as answer:
        _check("POST /v1/receipts/smtp", answer.status, await answer.read())


async def _ask_all(target: Target, asks: Sequence[tuple[str, str, Any]]) -> None:
    """All at once. Raises ServerFailed, and NothingAttacked where the target answered none of them."""
    async with _session(target) as http:

        async def ask(method: str, path: str, body: object) -> bool:
            data = None if body is None else BytesIO(_encode(body))
            try:
                async with http.request(method, target.url + path, data=data) as answer:
                    _check(f"{method} {path}", answer.status, await answer.read())
            except aiohttp.ClientConnectionError:
                return False  # At the cap of connections, or refused before the body was read: both are in order.
            return True

        if not any(await asyncio.gather(*(ask(*each) for each in asks))):
            raise NothingAttacked(f"none of {len(asks)} requests was answered, {asks[0][0]} {asks[0][1]} the first")


def _encode(body: object) -> bytes:
    # The standard library writes integers of any size; msgspec does not.
    return json.dumps(body).encode()


def _check(what: str, status: int, told: bytes) -> None:
    if status >= 500 and status != 503:
        raise ServerFailed(f"{what} was answered {status}: {told!r:.1000}")


def _session(target: Target) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {target.operator_key}", "Content-Type": "application/json"},
        timeout=aiohttp.ClientTimeout(_ANSWER_SECONDS),
        connector=aiohttp.TCPConnector(limit=0),
    )


def _email(address: str) -> dict[str, Any]:
    return {"to": [{"channel": "email", "address": address}], "content": {"title": "x", "body": "y"}}


def _webhook(address: str) -> dict[str, Any]:
    return {"to": [{"channel": "webhook", "address": address}], "content": {"title": "x", "body": "y"}}
