"""Webhooks: a JSON document posted to a URL."""

import ipaddress
from datetime import datetime
from functools import lru_cache
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from pabal.channels.port import Rendered
from pabal.errors import InvalidAddress
from pabal.notification import Content, Delivery

_MAX_URL = 2048
_encode = msgspec.json.Encoder().encode


class _Payload(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False, tag_field="type", tag="notification"
):
    """The generic document. `timestamp` is when the notification was accepted, so a retry posts the same bytes."""

    id: UUID
    notification_id: UUID
    timestamp: datetime
    title: str | None = None
    body: str | None = None
    data: dict[str, object] | None = None
    tags: tuple[str, ...] = ()


class Webhook:
    """One address is a whole system, so there is no default order."""

    name = "webhook"

    def canonical(self, address: str) -> str:
        """Scheme and host in lower case, no fragment, no credentials, at most 2,048 characters."""
        return _canonical(address)

    def order_key(self, address: str) -> str | None:
        """None: see the class."""
        del address
        return None

    def check(self, content: Content) -> str | None:
        """Anything with a text, data or a payload of its own can be posted."""
        if content.webhook is not None or content.title or content.body or content.data is not None:
            return None
        return "a webhook needs a title, a body, data, or webhook.payload"

    def render(self, delivery: Delivery, content: Content) -> Rendered:
        """The generic document, or the caller's own payload as it is."""
        if content.webhook is not None:
            return Rendered(body=_encode(content.webhook.payload).decode())
        payload = _Payload(
            id=delivery.id,
            notification_id=delivery.notification_id,
            timestamp=delivery.accepted_at,
            title=content.title,
            body=content.body,
            data=content.data,
            tags=delivery.tags,
        )
        return Rendered(body=_encode(payload).decode())


@lru_cache(maxsize=4096)
def _canonical(address: str) -> str:
    # As for e-mail: callers repeat addresses, and taking a URL apart costs a quarter of an accept.
    if len(address) > _MAX_URL:
        raise InvalidAddress(f"a webhook URL may have at most {_MAX_URL} characters; this has {len(address)}")
    if not address.isascii() or any(c <= " " or c == "\x7f" or c in '<>"\\^`{|}' for c in address):
        raise InvalidAddress("a webhook URL is ASCII without spaces; write other characters percent-encoded")
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise InvalidAddress(f"not a URL: {error}") from None
    host = parts.hostname or ""
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise InvalidAddress(
            "a webhook address is an absolute http:// or https:// URL, such as https://example.com/hook"
        )
    if parts.username is not None or parts.password is not None:
        raise InvalidAddress("a webhook URL must not carry credentials; the signature proves who calls")
    netloc = f"[{_ipv6(host)}]" if ":" in host else _dns(host)
    if port is not None and port != {"http": 80, "https": 443}[parts.scheme.lower()]:
        if port == 0:
            raise InvalidAddress("port 0 cannot be connected to")
        netloc = f"{netloc}:{port}"
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme.lower()}://{netloc}{parts.path or '/'}{query}"


def _dns(host: str) -> str:
    if len(host) > 253 or not all(0 < len(label) <= 63 for label in host.rstrip(".").split(".")):
        raise InvalidAddress(f"not a host name: {host[:80]!r}")
    return host


def _ipv6(host: str) -> str:
    try:
        return ipaddress.IPv6Address(host).compressed
    except ValueError as error:
        raise InvalidAddress(f"not an IPv6 address: {error}") from None
