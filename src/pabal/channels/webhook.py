"""Webhooks: a JSON document posted to a URL."""

import ipaddress
import re
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import urlsplit
from uuid import UUID

import idna
import msgspec

from pabal.channels.part import ContentPart, PartField
from pabal.channels.port import Rendered
from pabal.errors import InvalidAddress
from pabal.notification import Content, Delivery, Fact

_MAX_URL = 2048
_MAX_HOST = 253  # RFC 1035 §2.3.4, as text
# Wider than RFC 952 by what is really found in DNS: underscores, and hyphens at either end.
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
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


class WebhookContent(Fact, frozen=True, kw_only=True):
    """What a webhook posts instead of the generic parts: any JSON value, as it is."""

    payload: Annotated[Any, PartField("Any JSON value; posted as it is.", blanks="json", is_required=True)] = None


class WebhookChannel:
    """One address is a whole system, so there is no default order."""

    name = "webhook"
    default_provider = "webhook"
    default_concurrency = 128
    part = ContentPart(
        model=WebhookContent,
        medium="webhooks",
        asked="What a webhook posts instead of the generic document.",
        source='The webhook part: `payload` renders to JSON text (`{"order": {{ order | tojson }}}`).',
    )

    def canonical(self, address: str) -> str:
        """Scheme and host in lower case, no fragment, no credentials, at most 2,048 characters.

        A host beyond ASCII is written as DNS has it (`bücher.example` is `xn--bcher-kva.example`: IDNA 2008, with the
        mapping of UTS 46 for capitals and wide forms). A host that cannot exist is refused.
        """
        return _canonical(address)

    def suppressed_as(self, address: str) -> str:
        """The URL itself."""
        return address

    def order_key(self, address: str) -> str | None:
        """None: see the class."""
        del address
        return None

    def check(self, content: Content) -> str | None:
        """Anything with a text, data or a payload of its own can be posted."""
        if content.part(self.name) is not None or content.title or content.body or content.data is not None:
            return None
        return "a webhook needs a title, a body, data, or webhook.payload"

    def render(self, delivery: Delivery, content: Content) -> Rendered:
        """The generic document, or the caller's own payload as it is."""
        own: WebhookContent | None = content.part(self.name)
        if own is not None:
            return Rendered(body=_encode(own.payload).decode())
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
    if any(c <= " " or c == "\x7f" or c in '<>"\\^`{|}' for c in address):
        raise InvalidAddress("a webhook URL has no spaces and no control characters; write them percent-encoded")
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
    if not (parts.path.isascii() and parts.query.isascii() and parts.fragment.isascii()):
        raise InvalidAddress("what follows the host of a webhook URL is ASCII; write other characters percent-encoded")
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
    """A host name or an IPv4 address as DNS and sockets take it."""
    if len(host) > _MAX_HOST:
        raise InvalidAddress(f"a host name has at most {_MAX_HOST} characters; this has {len(host)}")
    name = host if host.isascii() else _ascii(host)
    labels = name.removesuffix(".").split(".")
    if len(name) > _MAX_HOST or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidAddress(
            f"not a host name: {host[:80]!r}; it is made of labels of letters, digits, '-' and '_', 1 to 63 each"
        )
    if _NUMBER.fullmatch(labels[-1]):
        # WHATWG URL: such a host is an IPv4 address or nothing, and readers differ about the short and octal forms.
        try:
            return str(ipaddress.IPv4Address(name))
        except ValueError:
            raise InvalidAddress(
                f"not a host name: {host[:80]!r} ends in a number, and an IPv4 address is four numbers from 0 to 255"
            ) from None
    return name


def _ascii(host: str) -> str:
    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise InvalidAddress(f"{host[:80]!r} is not an internationalised host name: {error}") from None


def _ipv6(host: str) -> str:
    if "%" in host:
        raise InvalidAddress("an IPv6 address with a zone means something on one machine alone")
    try:
        return ipaddress.IPv6Address(host).compressed
    except ValueError as error:
        raise InvalidAddress(f"not an IPv6 address: {error}") from None
