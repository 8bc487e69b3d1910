"""What there is to see of an arrival: as a line of the list, and whole. Pure."""

import json
from collections.abc import Sequence
from datetime import datetime
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import EmailMessage
from html.parser import HTMLParser
from typing import Any, Literal

import msgspec

from pabal.inbox.mailbag import CaughtEmail, Entry, Hook, Signature

_SNIPPET_CHARACTERS = 160


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the list. `title` is the subject, or the path that was posted to; `to` only e-mail has."""

    id: int
    kind: Literal["email", "webhook"]
    received_at: datetime
    title: str
    snippet: str
    to: tuple[str, ...] = ()
    signature: Signature | None = None


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A part that is neither the text nor the HTML; its content is in the raw message."""

    name: str
    content_type: str
    octets: int


class EmailView(msgspec.Struct, frozen=True, kw_only=True, tag="email", tag_field="kind"):
    """An e-mail, whole. `mail_from` and `rcpt_to` are the envelope's, what the head fields say is in `headers`."""

    id: int
    received_at: datetime
    mail_from: str
    rcpt_to: tuple[str, ...]
    subject: str
    headers: tuple[tuple[str, str], ...]
    text: str | None
    html: str | None
    attachments: tuple[Attachment, ...]
    raw: str


class HookView(msgspec.Struct, frozen=True, kw_only=True, tag="webhook", tag_field="kind"):
    """A webhook, whole. `body` is as it was posted; `pretty` the same indented, if it is JSON."""

    id: int
    received_at: datetime
    path: str
    headers: tuple[tuple[str, str], ...]
    body: str
    pretty: str | None
    signature: Signature


View = EmailView | HookView


def summarise(entry: Entry) -> Summary:
    """The line of the list."""
    if isinstance(entry, Hook):
        return Summary(
            id=entry.id,
            kind="webhook",
            received_at=entry.received_at,
            title=entry.path,
            snippet=_snippet(_decode(entry.body[: 4 * _SNIPPET_CHARACTERS])),
            signature=entry.signature,
        )
    message = entry.message
    return Summary(
        id=entry.id,
        kind="email",
        received_at=entry.received_at,
        title=_subject(message),
        snippet=_snippet(_content(message, "plain") or _text_of(_content(message, "html") or "")),
        to=entry.rcpt_to,
    )


def view(entry: Entry) -> View:
    """All there is."""
    if isinstance(entry, Hook):
        body = _decode(entry.body)
        return HookView(
            id=entry.id,
            received_at=entry.received_at,
            path=entry.path,
            headers=entry.headers,
            body=body,
            pretty=_pretty(body),
            signature=entry.signature,
        )
    message = entry.message
    return EmailView(
        id=entry.id,
        received_at=entry.received_at,
        mail_from=entry.mail_from,
        rcpt_to=entry.rcpt_to,
        subject=_subject(message),
        headers=_fields(message),
        text=_content(message, "plain"),
        html=_content(message, "html"),
        attachments=_attachments(message),
        raw=_decode(entry.raw),
    )


def html_of(entry: CaughtEmail) -> str | None:
    """Its HTML part, if it has one."""
    return _content(entry.message, "html")


def _content(message: EmailMessage, subtype: str) -> str | None:
    """The text of the best part of that type, however badly the message is made."""
    try:
        part = message.get_body((subtype,))
        content = part.get_content() if isinstance(part, EmailMessage) else None
    except Exception:
        # Of a malformed head field the standard library's parser may raise anything (IndexError, AttributeError, …),
        # of an unknown charset LookupError. The raw message shows what there is.
        return None
    return _valid(content).replace("\r\n", "\n") if isinstance(content, str) else None


def _attachments(message: EmailMessage) -> tuple[Attachment, ...]:
    try:
        return tuple(map(_attachment, message.iter_attachments())) if message.is_multipart() else ()
    except Exception:
        # See `_content`.
        return ()


def _attachment(part: Any) -> Attachment:
    payload = part.get_payload(decode=True)
    return Attachment(
        name=_valid(part.get_filename() or ""),
        content_type=part.get_content_type(),
        octets=len(payload) if isinstance(payload, bytes) else 0,
    )


def _fields(message: EmailMessage) -> tuple[tuple[str, str], ...]:
    return tuple((name, _field_text(value)) for name, value in message.raw_items())


def _subject(message: EmailMessage) -> str:
    return next((value for name, value in _fields(message) if name.lower() == "subject"), "")


def _field_text(raw: str) -> str:
    """A head field's value on one line, its encoded words decoded where that can be done."""
    line = " ".join(raw.split())
    try:
        return _valid(str(make_header(decode_header(line)))) if "=?" in line else _valid(line)
    except (MessageError, LookupError, ValueError):
        return _valid(line)


def _pretty(body: str) -> str | None:
    try:
        return _valid(json.dumps(json.loads(body), indent=2, ensure_ascii=False))
    except (ValueError, RecursionError):
        return None


def _snippet(text: str) -> str:
    return " ".join(text[: 8 * _SNIPPET_CHARACTERS].split())[:_SNIPPET_CHARACTERS]


def _decode(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


def _valid(text: str) -> str:
    """Without lone surrogates, which neither JSON nor HTML can carry."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class _TextOfHtml(HTMLParser):
    """Collects what a browser would show of a page, roughly."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self._hidden += tag in ("style", "script", "title")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script", "title") and self._hidden > 0

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def _text_of(html: str) -> str:
    parser = _TextOfHtml()
    parser.feed(html[: 100 * _SNIPPET_CHARACTERS])
    return " ".join(parser.words)
