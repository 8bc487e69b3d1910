"""What is made of an endpoint's answer, and of the lack of one."""

import asyncio
import gzip
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pabal.clock import ManualClock
from pabal.outcome import Accepted, Deferred, Outcome, Rejected, Unknown
from pabal.providers.port import ProviderContext
from pabal.providers.webhook import WebhookProvider, create
from tests.providers.webhook.conftest import SECRET, MakeProvider, send
from tests.providers.webhook.endpoint import Endpoint, Request, Script, answer, hang, hang_up, raw, reset
from tests.waiting import eventually

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_accepted(provider: WebhookProvider, endpoint: Endpoint, status: int) -> None:
    endpoint.script = answer(status)

    assert await send(provider, endpoint.url) == Accepted()


async def test_410_is_rejected(provider: WebhookProvider, endpoint: Endpoint) -> None:
    endpoint.script = answer(410, body=b"moved out")

    outcome = await send(provider, endpoint.url)

    assert outcome == Rejected(reason="the endpoint answered 410 (gone)", response="moved out")


@pytest.mark.parametrize("status", [101, 304, 400, 401, 403, 404, 405, 408, 409, 422, 429, 500, 502, 503, 599])
async def test_every_other_answer_is_deferred(provider: WebhookProvider, endpoint: Endpoint, status: int) -> None:
    endpoint.script = answer(status)

    outcome = await send(provider, endpoint.url)

    assert isinstance(outcome, Deferred)
    assert str(status) in outcome.reason


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(provider: WebhookProvider, endpoint: Endpoint, status: int) -> None:
    endpoint.script = answer(status, headers=f"Location: http://127.0.0.1:{endpoint.port}/elsewhere\r\n")

    outcome = await send(provider, endpoint.url)

    reason = f"the endpoint answered {status}; redirects are not followed"
    assert outcome == Deferred(reason=reason, address_only=True)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("status", "value", "seconds"),
    [
        (429, "120", 120.0),
        (503, " 7 ", 7.0),
        (503, format_datetime(NOW + timedelta(minutes=5), usegmt=True), 300.0),
        (503, (NOW + timedelta(minutes=5)).strftime("%A, %d-%b-%y %H:%M:%S GMT"), 300.0),
        (503, format_datetime(NOW - timedelta(minutes=5), usegmt=True), 0.0),
        (503, format_datetime((NOW + timedelta(minutes=5)).replace(tzinfo=None)), 300.0),
        (429, "99999999999999999999999", 86_400.0),
        (429, "Sun, 01 Mar 9999 12:00:00 GMT", 86_400.0),
        (429, "-5", None),
        (429, "soon", None),
        (429, "1.5", None),
        (429, "Sun, 99 Mar 2026 12:00:00 GMT", None),
        (429, "", None),
        (500, "120", None),
        (301, "120", None),
    ],
)
async def test_retry_after_is_honoured_on_429_and_503(
    endpoint: Endpoint, status: int, value: str, seconds: float | None
) -> None:
    context = ProviderContext(clock=ManualClock(NOW), webhook_secrets={"acme": [SECRET]})
    provider = create({"allow": ["127.0.0.1/32"]}, context)
    endpoint.script = answer(status, headers=f"Retry-After: {value}\r\n")

    outcome = await send(provider, endpoint.url)
    await provider.close()

    assert isinstance(outcome, Deferred)
    assert outcome.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("body", "response"),
    [
        (b"", None),
        ("grün".encode(), "grün"),
        (b"x" * 5000, "x" * 2048),
        (b"a\xffb\x00c", "a\ufffdb\ufffdc"),
        (b"\xff" * 3000, "\ufffd" * 682),
        (("x" * 2047 + "ü").encode(), "x" * 2047),
    ],
)
async def test_two_kib_of_the_answer_are_kept_as_text(
    provider: WebhookProvider, endpoint: Endpoint, body: bytes, response: str | None
) -> None:
    endpoint.script = answer(500, body=body)

    outcome = await send(provider, endpoint.url)

    assert outcome == Deferred(reason="the endpoint answered 500", response=response, address_only=True)


async def test_long_header_lines_are_read(provider: WebhookProvider, endpoint: Endpoint) -> None:
    endpoint.script = answer(200, headers=f"Content-Security-Policy: {'x' * 20_000}\r\n")

    assert await send(provider, endpoint.url) == Accepted()


async def _says_the_rest_later(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nthe start")


async def _talks_without_end(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nthe start\r\n")
    while True:
        writer.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        await writer.drain()


async def _stops_in_the_middle(_: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 100\r\n\r\nthe start")
    writer.close()


@pytest.mark.parametrize("script", [_says_the_rest_later, _talks_without_end, _stops_in_the_middle])
async def test_the_status_counts_whatever_becomes_of_the_body(
    make_provider: MakeProvider, endpoint: Endpoint, script: Script
) -> None:
    provider = make_provider(timeout_seconds=60)
    endpoint.script = script

    async with asyncio.timeout(10):
        outcome = await send(provider, endpoint.url)

    assert isinstance(outcome, Accepted)
    assert (outcome.response or "").startswith("the start")


async def test_of_an_endless_body_little_is_read(make_provider: MakeProvider, endpoint: Endpoint) -> None:
    provider = make_provider(timeout_seconds=60)
    written = 0

    async def talk(_: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 10_000)
            written += 10_000
            await writer.drain()

    endpoint.script = talk
    await send(provider, endpoint.url)

    assert written < 30_000_000  # what the buffers of two sockets hold, and not a second's worth


async def test_compressed_answers_are_not_inflated(provider: WebhookProvider, endpoint: Endpoint) -> None:
    endpoint.script = answer(200, body=gzip.compress(bytes(1_000_000)), headers="Content-Encoding: gzip\r\n")

    outcome = await send(provider, endpoint.url)

    assert isinstance(outcome, Accepted)
    assert (outcome.response or "").startswith("\x1f")


async def test_the_calls_own_deadline_ends_the_wait_for_a_body(make_provider: MakeProvider, endpoint: Endpoint) -> None:
    provider = make_provider(timeout_seconds=0.2)
    endpoint.script = _says_the_rest_later

    assert await send(provider, endpoint.url) == Accepted(response="the start")


async def _promises_for_ever(_: Request, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 102 Processing\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (hang, "no answer in time"),
        (_promises_for_ever, "more than 8 provisional answers"),
        (hang_up, "the connection was closed before an answer"),
        (raw(b"HTTP/1.1 200 O"), "the connection was closed before an answer"),
        (reset, "the connection broke before an answer"),
        (raw(b"220 mail.example ESMTP\r\n"), "the answer is not HTTP"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: a\r\n\r\n"), "the answer is not HTTP"),
    ],
)
async def test_no_answer_after_the_request_was_written_is_unknown(
    make_provider: MakeProvider, endpoint: Endpoint, script: Script, reason: str
) -> None:
    provider = make_provider(timeout_seconds=0.3)
    endpoint.script = script

    outcome = await send(provider, endpoint.url)

    assert outcome == Unknown(reason=reason)


async def test_a_request_that_nobody_has_read_is_unknown_too(make_provider: MakeProvider) -> None:
    provider = make_provider(timeout_seconds=0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        outcome = await send(provider, f"http://127.0.0.1:{deaf.getsockname()[1]}/")

    assert outcome == Unknown(reason="no answer in time")


async def test_closing_the_provider_ends_its_calls_as_unknown(provider: WebhookProvider, endpoint: Endpoint) -> None:
    endpoint.script = hang
    call = asyncio.create_task(send(provider, endpoint.url))
    await eventually(lambda: endpoint.requests)

    await provider.close()

    assert isinstance(await call, Unknown)


async def test_a_refused_connection_is_deferred(provider: WebhookProvider, endpoint: Endpoint) -> None:
    await endpoint.stop()

    assert await send(provider, endpoint.url) == Deferred(reason="no connection: Connection refused")


@pytest.fixture
def full_backlog() -> Iterator[int]:
    """A port whose queue of connections is full: Linux then leaves further ones unanswered."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        clients = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(server.getsockname())
            clients.append(client)
        yield server.getsockname()[1]
        for client in clients:
            client.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog refuses")
async def test_a_connection_that_is_never_made_is_deferred(make_provider: MakeProvider, full_backlog: int) -> None:
    provider = make_provider(timeout_seconds=0.4)

    outcome = await send(provider, f"http://127.0.0.1:{full_backlog}/")

    assert outcome == Deferred(reason="no connection in time")


async def test_an_endpoint_that_does_not_speak_tls_is_deferred(provider: WebhookProvider) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        outcome = await send(provider, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")

    assert isinstance(outcome, Deferred)
    assert outcome.reason.startswith("TLS failed")


async def test_a_tls_handshake_that_never_ends_is_deferred(make_provider: MakeProvider) -> None:
    provider = make_provider(timeout_seconds=0.4)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        outcome = await send(provider, f"https://127.0.0.1:{deaf.getsockname()[1]}/")

    assert outcome == Deferred(reason="no connection in time")


@pytest.mark.parametrize("to", ["mailto:ana@example.com", "http://", "https://[::1", "/hook", "http://0x7f.1]/", ""])
async def test_what_is_no_url_is_rejected(provider: WebhookProvider, to: str) -> None:
    assert isinstance(await send(provider, to), Rejected)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.one_of(st.binary(max_size=200), st.binary(max_size=100).map(lambda tail: b"HTTP/1.1 " + tail)))
def test_whatever_comes_back_is_an_outcome(data: bytes) -> None:
    async def run() -> Outcome:
        context = ProviderContext(clock=ManualClock(), webhook_secrets={"acme": [SECRET]})
        provider = create({"allow": ["127.0.0.1/32"], "timeout_seconds": 5}, context)
        async with Endpoint() as endpoint:
            endpoint.script = raw(data)
            try:
                return await send(provider, endpoint.url)
            finally:
                await provider.close()

    assert isinstance(asyncio.run(run()), Accepted | Deferred | Rejected | Unknown)
