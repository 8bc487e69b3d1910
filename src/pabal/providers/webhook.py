"""Posts to a customer's URL, signed after Standard Webhooks (https://www.standardwebhooks.com).

`webhook-id` is the idempotency key: it stays the same over all attempts, and the specification has receivers
deduplicate by it. So a call with an unknown outcome is made again.
"""

import asyncio
import base64
import hmac
import socket
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any, Final

import msgspec

from pabal import __version__
from pabal.channels.port import Rendered
from pabal.errors import ConfigError
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected
from pabal.providers.addresses import AddressGuard
from pabal.providers.http import Forbidden, HttpBody, HttpClient, Meaning, NotAUrl, outcome_of
from pabal.providers.options import Options, read_options
from pabal.providers.port import ProviderContext
from pabal.webhook_secret import read_secret

_PATH = "$.providers.webhook"
_PROBE_NAME = "pabal-doctor.invalid"
"""A name that does not exist (RFC 6761 §6.4): a resolver that is there says so."""
_MEANINGS: Final[Mapping[int | str, Meaning]] = {410: "rejected"}
"""Of every other answer than 2xx: this URL does not take it now. A 404 is not final either (docs/providers.md)."""


class WebhookOptions(Options, frozen=True, kw_only=True):
    """The table `[providers.webhook]`. `allow`: networks the guard lets through besides the public ones."""

    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=60)] = 10.0
    allow: tuple[str, ...] = ()


class WebhookProvider:
    """See `pabal.providers.port.Provider`; the verdict on each answer is written in docs/providers.md."""

    channel = "webhook"
    deduplicates_for: timedelta | None = timedelta(days=3)
    """How long we tell receivers to remember a `webhook-id` (docs/providers.md); every default time to live fits in."""

    def __init__(
        self,
        options: WebhookOptions,
        *,
        context: ProviderContext,
        guard: AddressGuard,
        probe_name: str = _PROBE_NAME,
    ) -> None:
        self.timeout_seconds = options.timeout_seconds
        self._allow = options.allow
        self._probe_name = probe_name
        self._clock = context.clock
        self._keys = {tenant: _keys(tenant, secrets) for tenant, secrets in context.webhook_secrets.items()}
        self._http = HttpClient(
            guard=guard, timeout_seconds=options.timeout_seconds, user_agent=f"Pabal/{__version__} (webhooks)"
        )

    async def send(self, rendered: Rendered, *, to: str, tenant: str, idempotency_key: str) -> Outcome:
        """Post the body once, signed with each of the tenant's secrets."""
        keys = self._keys.get(tenant)
        if not keys:
            return Misconfigured(
                reason=f"tenant {tenant!r} has no webhook secret: set $.tenants.{tenant}.webhook_secrets",
                tenant_only=True,
            )
        now = self._clock.now()
        timestamp = str(int(now.timestamp()))
        body = rendered.body.encode()
        signed = f"{idempotency_key}.{timestamp}.".encode() + body
        headers = {
            "webhook-id": idempotency_key,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join([_sign(key, signed) for key in keys]),
        }
        if rendered.traceparent is not None:
            headers["traceparent"] = rendered.traceparent
            if rendered.tracestate is not None:
                headers["tracestate"] = rendered.tracestate
        exchange = await self._http.request("POST", to, body=HttpBody(body, "application/json"), headers=headers)
        match exchange:
            case Forbidden(kind=kind):
                return Rejected(reason=f"{kind}: refused, as {_PATH}.allow does not name it")
            case NotAUrl():
                return Rejected(reason="the address is not an http or https URL")
            case _:
                return outcome_of(
                    exchange, by="the endpoint", now=now, meanings=_MEANINGS, otherwise="address_deferred"
                )

    async def check(self) -> Accepted | Deferred | Misconfigured:
        """See `ChecksConnection.check`. Each address has a far side of its own, so only the resolver is asked."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await loop.getaddrinfo(self._probe_name, 443)
        except TimeoutError:
            return Deferred(reason=f"the resolver does not answer within {self.timeout_seconds:g} s")
        except socket.gaierror as error:
            # "No such name" is an answer. EAI_AGAIN is what a resolver that is away looks like.
            if error.errno == socket.EAI_AGAIN:
                return Deferred(reason=f"the resolver does not answer: {error.strerror}; see /etc/resolv.conf")
        allowed = f"public addresses and {', '.join(self._allow)}" if self._allow else "public addresses alone"
        return Accepted(response=f"the resolver answers; {allowed} may be called")

    def host_of(self, address: str) -> str:
        """Host and port of the URL, which is in canonical form: they answer for it, whatever the path."""
        return address.split("/", 3)[2]

    async def close(self) -> None:
        """See `Provider.close`."""
        await self._http.close()


def create(options: Mapping[str, Any], context: ProviderContext) -> WebhookProvider:
    """The entry point `webhook`. Raises ConfigError for a wrong option or a secret that is none."""
    settings = read_options(options, WebhookOptions, path=_PATH)
    try:
        guard = AddressGuard(allow=settings.allow)
    except ValueError as error:
        raise ConfigError(f"{_PATH}.allow: {error}") from None
    return WebhookProvider(settings, context=context, guard=guard)


def _sign(key: hmac.HMAC, signed: bytes) -> str:
    """The symmetric signature of Standard Webhooks. Their library signs the same in three times the time."""
    # Not `hmac.digest`: it releases the interpreter's lock, whatever the length, and the event loop has to get it back.
    signature = key.copy()
    signature.update(signed)
    return f"v1,{base64.b64encode(signature.digest()).decode()}"


def _keys(tenant: str, secrets: Sequence[str]) -> Sequence[hmac.HMAC]:
    keys = []
    for index, secret in enumerate(secrets):
        try:
            keys.append(hmac.new(read_secret(secret), digestmod="sha256"))
        except ValueError as error:
            raise ConfigError(f"$.tenants.{tenant}.webhook_secrets[{index}]: {error}") from None
    return keys
