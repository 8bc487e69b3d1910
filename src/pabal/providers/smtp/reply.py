"""What a server's reply says about the delivery. Pure; the table stands in `docs/email.md`.

Two mistakes would hurt: taking *our* fault (no relaying allowed, no credentials) for the recipient's would finish
every delivery as rejected; taking *one message's* fault for ours would stop the whole channel. So a refusal counts
as ours only where the recipient and the content can have no part in it.
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
# About this message whoever sends it: too big, or addresses beyond ASCII.
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


def to_outcome(reply: Reply, *, server: str, recipient: str = "") -> Outcome:
    """What became of the delivery. `reply.code` is 4xx or 5xx at any stage, or 2xx to the content.

    Names, the recipient's above all, are taken out of the text before its words are looked at: nobody's address can
    talk us into stopping the channel.
    """
    if reply.code < 400:
        return Accepted(provider_id=reply.queue_id, response=reply.snippet)
    first_line = reply.text.partition("\n")[0][:200].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    step = "the connection" if reply.stage == "connect" else f"the {reply.stage}" if reply.stage == "content" else None
    reason = f"{server} refused {step or reply.stage}: {reply.code} {first_line}"
    if reply.code < 500 or _is_full(reply):
        return Deferred(reason=reason, response=reply.snippet)
    if _is_our_fault(reply, recipient=recipient):
        return Misconfigured(reason=reason, response=reply.snippet)
    return Rejected(reason=reason, response=reply.snippet)


def _is_full(reply: Reply) -> bool:
    """A full mailbox may be emptied; RFC 5321 §4.5.3.1.10 wants 552 to RCPT treated as temporary."""
    return reply.detail == "2.2" or (
        reply.stage == "RCPT" and reply.code == 552 and reply.detail not in _MESSAGE_DETAILS
    )


def _is_our_fault(reply: Reply, *, recipient: str) -> bool:
    if reply.code in _AUTHENTICATION_CODES or reply.detail in _AUTHENTICATION_DETAILS:
        return True
    match reply.stage:
        case "content":
            return False
        case "MAIL":
            return reply.code != 552 and reply.detail not in _MESSAGE_DETAILS
        case "RCPT" | "DATA":
            return (
                reply.code in _COMMAND_CODES
                or reply.detail in _SENDER_DETAILS
                or _denies_relay(reply, recipient=recipient)
            )
        case _:
            return True


def _denies_relay(reply: Reply, *, recipient: str) -> bool:
    """`550 5.7.1 Relaying denied`, `554 5.7.1 <…>: Relay access denied`: we may not send through this server."""
    if reply.detail is not None and not reply.detail.startswith("7."):
        return False
    words = _NAMES.sub("", reply.text)
    words = re.sub(rf"\b{re.escape(recipient.partition('@')[0])}\b", "", words, flags=re.IGNORECASE)
    return _RELAY.search(words) is not None
