"""What an endpoint is sent."""

import asyncio
from datetime import UTC, datetime

import pytest
import standardwebhooks

from pabal.channels.port import Rendered
from pabal.clock import ManualClock
from pabal.errors import ConfigError
from pabal.outcome import Accepted, Misconfigured
from pabal.providers.port import ProviderContext
from pabal.providers.webhook import WebhookProvider, create
from tests.providers.webhook.conftest import BODY, NEWER_SECRET, SECRET, send
from tests.providers.webhook.endpoint import Endpoint, Script, answer
from tests.waiting import eventually


async def test_the_body_is_posted_as_it_was_rendered(provider: WebhookProvider, endpoint: Endpoint) -> None:
    outcome = await send(provider, f"http://127.0.0.1:{endpoint.port}/a%2Fb?sig=x%7Ey+z")

    assert outcome == Accepted(response="ok")

    [request] = endpoint.requests
    assert request.line == "POST /a%2Fb?sig=x%7Ey+z HTTP/1.1"
    assert request.body.decode() == BODY
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("Pabal/")


async def test_a_standard_webhooks_library_verifies_the_signature(
    provider: WebhookProvider, endpoint: Endpoint
) -> None:
    await send(provider, endpoint.url, key="delivery-7")

    [request] = endpoint.requests
    assert request.headers["webhook-id"] == "delivery-7"
    standardwebhooks.Webhook(SECRET).verify(request.body, request.headers)


@pytest.mark.parametrize("secret", [SECRET, NEWER_SECRET])
async def test_while_a_secret_rotates_both_the_old_and_the_new_one_verify(
    provider: WebhookProvider, endpoint: Endpoint, secret: str
) -> None:
    await send(provider, endpoint.url, tenant="rotating")

    [request] = endpoint.requests
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    standardwebhooks.Webhook(secret).verify(request.body, request.headers)


async def test_the_timestamp_is_the_clocks(endpoint: Endpoint) -> None:
    clock = ManualClock(datetime(2026, 3, 1, tzinfo=UTC))
    provider = create({"allow": ["127.0.0.1/32"]}, ProviderContext(clock=clock, webhook_secrets={"acme": [SECRET]}))

    await send(provider, endpoint.url)
    await provider.close()

    assert endpoint.requests[0].headers["webhook-timestamp"] == str(int(clock.now().timestamp()))


@pytest.mark.parametrize("tenant", ["stranger", "bare"])
async def test_a_tenant_without_a_secret_is_misconfigured_and_nothing_is_sent(
    provider: WebhookProvider, endpoint: Endpoint, tenant: str
) -> None:
    outcome = await send(provider, endpoint.url, tenant=tenant)

    assert outcome == Misconfigured(
        reason=f"tenant {tenant!r} has no webhook secret: set $.tenants.{tenant}.webhook_secrets",
        tenant_only=True,
    )
    assert endpoint.connections == 0


async def _answer_in_pieces(_: object, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n")
    for _piece in range(4):
        for _turn in range(10):  # of the event loop, so that the client reads in between
            await asyncio.sleep(0)
        writer.write(b"x" * 10_000)


@pytest.mark.parametrize("script", [answer(200), answer(200, body=b"x" * 20_000), _answer_in_pieces])
async def test_connections_are_used_again(provider: WebhookProvider, endpoint: Endpoint, script: Script) -> None:
    endpoint.script = script

    for _ in range(3):
        await send(provider, endpoint.url)

    assert len(endpoint.requests) == 3
    assert endpoint.connections == 1


async def test_a_connection_that_the_endpoint_closed_in_between_is_not_used(
    provider: WebhookProvider, endpoint: Endpoint
) -> None:
    endpoint.script = answer(200, headers="Connection: close\r\n")

    outcomes = [await send(provider, endpoint.url) for _ in range(2)]

    assert outcomes == [Accepted(), Accepted()]
    assert endpoint.connections == 2


async def test_cookies_are_not_kept(provider: WebhookProvider, endpoint: Endpoint) -> None:
    endpoint.script = answer(200, headers="Set-Cookie: a=b; Path=/\r\n")

    await send(provider, endpoint.url)
    await send(provider, endpoint.url)

    assert "cookie" not in endpoint.requests[1].headers


async def test_proxies_of_the_environment_are_not_used(
    provider: WebhookProvider, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    assert isinstance(await send(provider, endpoint.url), Accepted)


async def test_many_calls_run_at_the_same_time(provider: WebhookProvider, endpoint: Endpoint) -> None:
    everyone_is_here = asyncio.Event()

    async def wait_for_all(_: object, writer: asyncio.StreamWriter) -> None:
        await everyone_is_here.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    endpoint.script = wait_for_all
    calls = asyncio.gather(*(send(provider, endpoint.url) for _ in range(150)))
    await eventually(lambda: len(endpoint.requests) == 150)
    everyone_is_here.set()

    assert await calls == [Accepted()] * 150


async def test_a_closed_provider_refuses_to_send(provider: WebhookProvider, endpoint: Endpoint) -> None:
    await provider.close()

    with pytest.raises(RuntimeError, match="closed"):
        await send(provider, endpoint.url)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_seconds": "ten"}, r"\$\.providers\.webhook\.timeout_seconds: Expected `float`, got `str`"),
        ({"timeout_seconds": 0}, r"\$\.providers\.webhook\.timeout_seconds: Expected `float` > 0"),
        ({"timeout_seconds": 61}, r"\$\.providers\.webhook\.timeout_seconds: Expected `float` <= 60"),
        ({"allow": ["10.0.0.1/8"]}, r"\$\.providers\.webhook\.allow: 10\.0\.0\.1/8 has host bits set"),
        ({"retries": 3}, r"\$\.providers\.webhook\.retries: unknown setting"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create(options, ProviderContext(clock=ManualClock()))


@pytest.mark.parametrize("secret", ["", "mysecret", "whsec_", "whsec_höchstgeheim", "whsec_bXlzZWNyZXQ="])
def test_a_secret_that_is_none_is_named_but_not_shown(secret: str) -> None:
    with pytest.raises(ConfigError) as raised:
        create({}, ProviderContext(clock=ManualClock(), webhook_secrets={"acme": [SECRET, secret]}))

    assert str(raised.value).startswith("$.tenants.acme.webhook_secrets[1]: ")
    assert "write whsec_ and 24 to 64 random bytes in base64" in str(raised.value)
    assert not secret.removeprefix("whsec_") or secret not in str(raised.value)


async def test_the_trace_goes_along_where_there_is_one(provider: WebhookProvider, endpoint: Endpoint) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    for traceparent, tracestate in ((None, None), (trace, None), (trace, "rojo=1,congo=t61rcWkgMzE")):
        rendered = Rendered(body=BODY, traceparent=traceparent, tracestate=tracestate)
        await provider.send(rendered, to=endpoint.url, tenant="acme", idempotency_key="k")

    without, with_trace, with_state = endpoint.requests
    assert not {"traceparent", "tracestate"} & {*without.headers}
    assert with_trace.headers["traceparent"] == with_state.headers["traceparent"] == trace
    assert "tracestate" not in with_trace.headers
    assert with_state.headers["tracestate"] == "rojo=1,congo=t61rcWkgMzE"


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://example.com/hook", "example.com"),
        ("http://127.0.0.1:8080/hook?a=//b", "127.0.0.1:8080"),
        ("https://[2001:db8::1]/", "[2001:db8::1]"),
    ],
)
async def test_host_and_port_answer_for_an_address(provider: WebhookProvider, address: str, host: str) -> None:
    assert provider.host_of(address) == host
