"""What a server's reply says about the delivery. Pure; the table stands in `docs/email.md`.

Two mistakes would hurt. Our own fault (no relaying allowed, no credentials), taken for the recipient's, would end every
delivery as rejected. One recipient's refusal, taken for our fault, would stop the whole channel. And a server repeats
what the recipient's own server said, in words that sound as if they were about us. So a refusal counts as our fault at
once only where the recipient and the content can have no part in it; `suspicion.py` says when another refusal does.
"""

import re
from typing import Final, Literal

import msgspec

from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected

Stage = Literal["queue", "connect", "EHLO", "STARTTLS", "AUTH", "RSET", "MAIL", "RCPT", "DATA", "content"]
"""How far a hand-over has come: waiting for a connection, its opening, and the commands of the transaction.

From `content` on the server may have taken the message; before it, it cannot have.
"""

MAX_SNIPPET_OCTETS: Final = 2048

_ENHANCED = re.compile(r"[245]\.(\d{1,3}\.\d{1,3})(?!\d)")  # RFC 3463 §2: class.subject.detail
_RELAY = re.compile(r"\brelay", re.IGNORECASE)
_NAMES = re.compile(r"\S*[@.]\w\S*")  # addresses, hosts, enhanced codes

# RFC 4954 §6, RFC 3207: authentication or TLS required, refused, too weak.
_AUTHENTICATION_CODES = frozenset({530, 534, 535, 538})
# The same as enhanced codes (IANA's registry): credentials invalid, mechanism too weak, encryption needed (twice),
# account disabled, trust relationship required.
_AUTHENTICATION_DETAILS = frozenset({"7.8", "7.9", "7.10", "7.11", "7.13", "7.14"})
# Said to RCPT and DATA about us: sender's mailbox or domain bad (also when the server delayed its answer to MAIL),
# the host takes no mail or is misconfigured, undefined security status.
_SENDER_DETAILS = frozenset({"1.7", "1.8", "3.2", "3.5", "7.0"})
# Not understood: syntax, not implemented, out of sequence, EHLO name refused. (501 to RCPT is a bad address.)
_COMMAND_CODES = frozenset({500, 502, 503, 504})
# About this message, whatever its sender: too big, or addresses beyond ASCII.
_MESSAGE_DETAILS = frozenset({"2.3", "3.4", "6.7"})

_QUEUE_IDS = (
    re.compile(r"\bqueued as ([\w.+-]+)", re.IGNORECASE),  # Postfix, Mailpit, many relays
    re.compile(r"\bid=([\w-]+)"),  # Exim
    re.compile(r"^(?:2\.\d\.\d:? )?([\w-]+) Message accepted for delivery"),  # Sendmail, OpenSMTPD
    re.compile(r"^Ok ([0-9a-f]{16}-[0-9a-f-]+)\Z"),  # Amazon SES
)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One reply, and to what it was given."""

    stage: Stage
    code: int
    text: str

    @property
    def detail(self) -> str | None:
        """Subject and detail of the enhanced status code (`7.1` of `5.7.1`), if there is one."""
        found = _ENHANCED.match(self.text)
        return found[1] if found else None

    @property
    def snippet(self) -> str:
        """Code and text for the timeline: valid UTF-8, at most 2 KiB."""
        octets = f"{self.code} {self.text}".encode("utf-8", "surrogateescape")
        return octets[:MAX_SNIPPET_OCTETS].decode("utf-8", "ignore")

    @property
    def queue_id(self) -> str | None:
        """The server's own name for the message, where its wording is known."""
        first = self.text.partition("\n")[0]
        return next((found[1] for pattern in _QUEUE_IDS if (found := pattern.search(first))), None)


Concern = Literal["us", "us_perhaps", "server", "recipient"]
"""What a refusal is about. `us_perhaps`: its words say us, but the server knew the recipient already."""


def concern_of(reply: Reply, *, recipient: str = "") -> Concern:
    """What a refusal (4xx or 5xx) is about.

    Names, the recipient's above all, are taken out of the text before its words are looked at: no address can talk us
    into suspecting ourselves.
    """
    if reply.code < 500 or _is_full(reply):
        return "recipient" if _is_recipients_for_now(reply) else "server"
    if reply.code in _AUTHENTICATION_CODES or reply.stage not in ("MAIL", "RCPT", "DATA", "content"):
        return "us"
    if reply.stage == "MAIL":
        return "recipient" if reply.code == 552 or reply.detail in _MESSAGE_DETAILS else "us"
    return "us_perhaps" if _sounds_like_us(reply, recipient=recipient) else "recipient"


def to_outcome(reply: Reply, *, server: str, recipient: str = "", is_believed: bool = False) -> Outcome:
    """What became of the delivery. `reply.code` is 4xx or 5xx at any stage, or 2xx to the content.

    `is_believed`: several recipients' domains refused like this, so it is ours, or the server's, and not theirs.
    """
    if reply.code < 400:
        return Accepted(provider_id=reply.queue_id, response=reply.snippet)
    first_line = reply.text.partition("\n")[0][:200].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    step = "the connection" if reply.stage == "connect" else f"the {reply.stage}" if reply.stage == "content" else None
    reason = f"{server} refused {step or reply.stage}: {reply.code} {first_line}"
    concern = concern_of(reply, recipient=recipient)
    if reply.code < 500 or _is_full(reply):
        address_only = concern == "recipient" and not is_believed
        return Deferred(reason=reason, response=reply.snippet, address_only=address_only)
    if concern == "us" or (concern == "us_perhaps" and is_believed):
        return Misconfigured(reason=reason, response=reply.snippet)
    if concern == "us_perhaps" and not _is_policy(reply, recipient=recipient):
        # Nothing final is said of the recipient, and it may be mended on our side.
        return Deferred(reason=reason, response=reply.snippet, address_only=True)
    return Rejected(reason=reason, response=reply.snippet)


def _is_recipients_for_now(reply: Reply) -> bool:
    """`450 4.2.0 Greylisted`, a full mailbox: not the server's own trouble (421, 451, 452, x.3, x.4)."""
    if reply.stage not in ("RCPT", "DATA", "content") or reply.code == 421:
        return False
    detail = reply.detail
    return reply.code in (450, 552) if detail is None else detail.startswith(("1.", "2.", "7."))


def _is_full(reply: Reply) -> bool:
    """A full mailbox may be emptied; RFC 5321 §4.5.3.1.10 wants 552 to RCPT treated as temporary."""
    return reply.detail == "2.2" or (
        reply.stage == "RCPT" and reply.code == 552 and reply.detail not in _MESSAGE_DETAILS
    )


def _sounds_like_us(reply: Reply, *, recipient: str) -> bool:
    if reply.detail in _AUTHENTICATION_DETAILS:
        return True
    if reply.stage == "content":
        return False
    return reply.code in _COMMAND_CODES or reply.detail in _SENDER_DETAILS or _denies_relay(reply, recipient=recipient)


def _is_policy(reply: Reply, *, recipient: str) -> bool:
    """A security policy (x.7.x), which is the recipient's to have, unless it is about relaying."""
    is_policy = reply.detail is not None and reply.detail.startswith("7.")
    return is_policy and not _denies_relay(reply, recipient=recipient)


def _denies_relay(reply: Reply, *, recipient: str) -> bool:
    """`550 5.7.1 Relaying denied`, `554 5.7.1 <…>: Relay access denied`: we may not send through this server."""
    if reply.detail is not None and not reply.detail.startswith("7."):
        return False
    words = _NAMES.sub("", reply.text)
    words = re.sub(rf"\b{re.escape(recipient.partition('@')[0])}\b", "", words, flags=re.IGNORECASE)
    return _RELAY.search(words) is not None
