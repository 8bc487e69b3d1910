"""What the simulated relay reports later about mail it took: signed callbacks in the SMTP provider's format.

Duplicates and disorder are on order, because real relays make both without being asked.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

import msgspec

from pabal.notification import ReceiptKind
from pabal.providers.addresses import AddressGuard
from pabal.providers.http import HttpAnswer, HttpBody, HttpClient
from pabal.providers.signatures import sign
from pabal.simulator.received import Received
from pabal.webhook_secret import read_secret

TIMEOUT_SECONDS: Final = 10.0

_encode = msgspec.json.Encoder().encode


class ReceiptOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which receipts to send, and how badly.

    For each of the `last` kept messages (None: all of them) to a `recipient` that ends so, one receipt of each of
    `kinds`, to the URL `to`, signed with `secret` (`whsec_…`). A bounce is `permanent` or not. `copies` of each are
    posted; `out_of_order` posts everything backwards. `named_by`: what the message is called by, ours or the relay's.
    """

    to: str
    secret: str
    kinds: Annotated[tuple[ReceiptKind, ...], msgspec.Meta(min_length=1)] = ("delivered",)
    permanent: bool = True
    recipient: str = ""
    last: Annotated[int, msgspec.Meta(ge=1)] | None = None
    copies: Annotated[int, msgspec.Meta(ge=1, le=10)] = 1
    out_of_order: bool = False
    named_by: Literal["message_id", "provider_id"] = "message_id"

    def __post_init__(self) -> None:
        """Raises ValueError."""
        read_secret(self.secret)


class PostedReceipts(msgspec.Struct, frozen=True, kw_only=True):
    """How many callbacks were posted, and how they were answered (`202`, or what went wrong)."""

    posted: int
    by_answer: Mapping[str, int]


def queue_id(message_id: str) -> str:
    """What the simulated relay calls a message, as its reply says (`queued as …`)."""
    return hashlib.sha256(message_id.strip().strip("<>").encode()).hexdigest()[:12].upper()


def make_callbacks(messages: Iterable[Received], order: ReceiptOrder) -> Sequence[bytes]:
    """The bodies to post, in the order to post them in. The same message gives the same ones each time. Pure."""
    mail = [each for each in messages if not each.path.startswith("/") and each.path.endswith(order.recipient)]
    if order.last is not None:
        mail = mail[-order.last :]
    bodies = [
        _encode({"receipts": [_report(message, kind, step=step, order=order)]})
        for message in mail
        for step, kind in enumerate(order.kinds, start=1)
    ]
    repeated = [body for body in bodies for _ in range(order.copies)]
    return repeated[::-1] if order.out_of_order else repeated


async def post_callbacks(bodies: Sequence[bytes], order: ReceiptOrder, *, now: datetime) -> PostedReceipts:
    """Post one after the other, each signed as of now."""
    key = read_secret(order.secret)
    # A tool for rehearsals, told by its own operator where to post.
    guard = AddressGuard(allow=("0.0.0.0/0", "::/0"))
    client = HttpClient(guard=guard, timeout_seconds=TIMEOUT_SECONDS, user_agent="Pabal simulator")
    answers: Counter[str] = Counter()
    try:
        for number, body in enumerate(bodies, start=1):
            headers = sign(body, key=key, message_id=f"sim-{now.timestamp():.6f}-{number}", at=now)
            exchange = await client.request("POST", order.to, body=HttpBody(body, "application/json"), headers=headers)
            answers[str(exchange.status) if isinstance(exchange, HttpAnswer) else type(exchange).__name__] += 1
    finally:
        await client.close()
    return PostedReceipts(posted=len(bodies), by_answer=dict(answers))


def _report(message: Received, kind: ReceiptKind, *, step: int, order: ReceiptOrder) -> dict[str, Any]:
    message_id = message.headers.get("message-id", "")
    name = {"message_id": message_id} if order.named_by == "message_id" else {"provider_id": queue_id(message_id)}
    taken_at = datetime.fromtimestamp(message.at_ns / 1e9, UTC)
    return {
        "event": f"sim-{queue_id(message_id)}-{kind}",
        "kind": kind,
        "at": taken_at + timedelta(milliseconds=step),
        "permanent": kind == "bounced" and order.permanent,
        "detail": f"the simulator was told to say so of {message.path}",
        **name,
    }
