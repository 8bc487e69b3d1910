"""The bytes of a message. Pure.

Written out by hand, because the standard library's generator costs about 1 ms a message (more than the rest of
the hand-over), needs seconds for a subject of 100 KB, and passes a text such as `=?utf-8?q?…?=` on as if it were
encoded. What is written is narrow: seven bits per byte except for addresses that need SMTPUTF8, lines of at most 78
characters wherever folding is possible, every head field's value through one function that lets no control
character pass. The tests read it back with the standard library's parser.
"""

import base64
import binascii
import hashlib
import re
import textwrap
from datetime import datetime
from email.utils import format_datetime
from urllib.parse import quote

from pabal.channels.port import Rendered
from pabal.providers.smtp.mailbox import Mailbox

_LINE = 78  # RFC 5322 §2.1.1: SHOULD; 998 is the MUST
_MAX_LINE = 998
_LARGE = 64 * 1024
"""Bytes of a part beyond which no other encoding is tried: to look at each character of a megabyte, line by line, would
hold the event loop for a tenth of a second and more."""
_MAX_ATOM = 200  # a Message-ID cannot be folded
_ENCODED_WORD_OCTETS = 39  # as base64 52 characters; with `=?utf-8?b?…?=` and a field name within RFC 2047's 76

# C0 and C1 controls, DEL, and the two separators that some readers take for line ends.
_CONTROLS = re.compile("[\x00-\x20\x7f-\x9f\u2028\u2029]+")
_PLAIN = re.compile(r"[\x20-\x7e]*")
_PLAIN_TEXT = re.compile(r"[\t\n\x20-\x7e]*")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")  # RFC 5322 §3.2.3, with spaces between
_FIELD_NAME = re.compile(r"[!-9;-~]+")  # RFC 5322 §3.6.8: printable ASCII without the colon
_OWN_FIELDS = frozenset(
    {"from", "to", "subject", "date", "message-id", "auto-submitted"}
    | {"mime-version", "content-type", "content-transfer-encoding"}
)


def compose(rendered: Rendered, *, sender: Mailbox, to: Mailbox, key: str, now: datetime) -> bytes:
    """The message, with CRLF line ends and without dot-stuffing (RFC 5321 §4.5.2), which is the dialogue's.

    `key` becomes the left part of the Message-ID, so every attempt at one delivery has the same. A `Rendered`
    without text but with HTML becomes a single HTML part.

    Raises:
        ValueError: a head field in `rendered.headers` whose name is not one, or is ours to write.
    """
    message_id = f"<{_atom(key)}@{sender.domain}>"
    head = [
        f"From: {_phrase(sender.name)}<{sender.address}>",
        f"To: {to.address}",
        f"Subject: {_unstructured(rendered.subject or '')}",
        f"Date: {format_datetime(now)}",
        f"Message-ID: {message_id}",
        "Auto-Submitted: auto-generated",  # RFC 3834 §5: keeps vacation replies away
        *(f"{_field_name(name)}: {_unstructured(value)}" for name, value in rendered.headers.items()),
        "MIME-Version: 1.0",
    ]
    if rendered.html and rendered.body:
        parts = [_part(rendered.body, subtype="plain"), _part(rendered.html, subtype="html")]
        boundary = _boundary(message_id, parts=parts)
        head.append(f'Content-Type: multipart/alternative;\r\n boundary="{boundary}"\r\n')
        body = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts)
        tail = b"--%b--\r\n" % boundary.encode()
    else:
        body = _part(rendered.html or rendered.body, subtype="html" if rendered.html else "plain")
        tail = b""
    return "".join(f"{field}\r\n" for field in head).encode() + body + tail


def _part(text: str, *, subtype: str) -> bytes:
    """One text part: its head fields, an empty line, its content in the transfer encoding that fits best."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    if not lines.endswith("\n"):
        lines += "\n"
    data = lines.encode("utf-8", "replace")
    if len(data) > _LARGE:
        encoding, content = "base64", _base64_lines(data.replace(b"\n", b"\r\n"))
    elif _PLAIN_TEXT.fullmatch(lines) and max(map(len, lines.split("\n"))) <= _LINE:
        encoding, content = "7bit", data
    else:
        encoding, content = "quoted-printable", binascii.b2a_qp(data)
        if len(content) > len(data) * 4 // 3:
            encoding, content = "base64", _base64_lines(data.replace(b"\n", b"\r\n"))
    head = f"Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return head.encode() + content.replace(b"\n", b"\r\n")


def _base64_lines(data: bytes) -> bytes:
    """Lines of 76 characters (RFC 2045 §6.8)."""
    encoded = binascii.b2a_base64(data, newline=False)
    return b"".join(encoded[place : place + 76] + b"\n" for place in range(0, len(encoded), 76))


def _boundary(seed: str, *, parts: list[bytes]) -> str:
    """A line that no part holds; derived, so that two attempts are the same bytes but for the date."""
    boundary = "=_" + hashlib.sha256(seed.encode()).hexdigest()[:32]
    while any(boundary.encode() in part for part in parts):
        boundary = "=_" + hashlib.sha256(boundary.encode()).hexdigest()[:32]
    return boundary


def _atom(key: str) -> str:
    """Any text as a dot-atom (RFC 5322 §3.2.3): a UUID as it is, other characters percent-encoded, else a digest."""
    octets = key.encode("utf-8", "replace")
    atom = quote(octets, safe="").replace(".", "%2E")
    return atom if 0 < len(atom) <= _MAX_ATOM else hashlib.sha256(octets).hexdigest()


def _field_name(name: str) -> str:
    if not _FIELD_NAME.fullmatch(name) or name.lower() in _OWN_FIELDS:
        raise ValueError(f"not a head field that a channel may set: {name!r}")
    return name


def _phrase(name: str) -> str:
    """A display name with the space after it: as it is, quoted where it must be, encoded where that is not enough."""
    if not name:
        return ""
    if _is_literal(name) and len(name) < _MAX_LINE // 2:
        if _ATOMS.fullmatch(name):
            return f"{name} "
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{quoted}" '
    return f"{_encoded_words(name)}\r\n "


def _unstructured(text: str) -> str:
    """The value of a head field such as Subject: one logical line, folded, encoded if it is not plain ASCII."""
    line = _CONTROLS.sub(" ", text).strip(" ")
    if not _is_literal(line):
        return _encoded_words(line)
    if len(line) <= _LINE - len("Auto-Submitted: "):
        return line
    folded = textwrap.wrap(line, _LINE - len("Auto-Submitted: "), break_long_words=False, break_on_hyphens=False)
    return "\r\n ".join(folded) if max(map(len, folded)) < _MAX_LINE - _LINE else _encoded_words(line)


def _is_literal(text: str) -> bool:
    """Whether it may stand in a head field as it is; `=?` would be read as the start of an encoded word."""
    return _PLAIN.fullmatch(text) is not None and "=?" not in text


def _encoded_words(text: str) -> str:
    """RFC 2047 §2: base64 words of whole characters, one per line."""
    words: list[str] = []
    chunk = b""
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(chunk) + len(octets) > _ENCODED_WORD_OCTETS:
            words.append(_encoded_word(chunk))
            chunk = b""
        chunk += octets
    words.append(_encoded_word(chunk))
    return "\r\n ".join(words)


def _encoded_word(octets: bytes) -> str:
    return f"=?utf-8?b?{base64.b64encode(octets).decode()}?="
