"""What carries a delivery to its recipient: an SMTP server, a webhook endpoint, Twilio, FCM.

A provider *translates*: it takes what a channel rendered and answers with an `Outcome`. It does not retry, sleep,
count or decide: the worker does. Third parties add one by an entry point in the group `pabal.providers`:
a callable `create(options, context) -> Provider`; `pabal.testing.ProviderContract` says what it must keep.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

import msgspec

from pabal.channels.port import Rendered
from pabal.clock import Clock
from pabal.notification import Receipt
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome


class Provider(Protocol):
    """Carries deliveries of one channel. Safe for any number of concurrent `send` calls in one event loop."""

    channel: str
    """The channel it carries."""

    deduplicates_for: timedelta | None
    """How long the far side recognises our idempotency key and does not act twice; None: it does not."""

    timeout_seconds: float
    """`send` answers within this time; the worker's claim outlasts it."""

    async def send(self, rendered: Rendered, *, to: str, tenant: str, idempotency_key: str) -> Outcome:
        """Hand over once. `to` is a canonical address of the channel.

        Every answer, refusal, timeout or broken connection is an `Outcome`: `Unknown` if and only if bytes of the
        request may have been handed over and no answer tells what became of them. Raises only on cancellation
        and on programming errors (which the worker takes as `Unknown`).
        """
        ...

    async def close(self) -> None:
        """Let go of connections; idempotent."""
        ...


@runtime_checkable
class KnowsHosts(Protocol):
    """Optional: a provider whose addresses belong to different hosts, such as customers' endpoints.

    The worker's guard then counts failures per host; those of any other provider it counts against the provider. A
    `Deferred` that is an answer should say `address_only`: else it counts against the host, which others may share.
    """

    def host_of(self, address: str) -> str:
        """The host that a canonical address of the channel belongs to. Pure and quick: asked before each call."""
        ...


@runtime_checkable
class ChecksConnection(Protocol):
    """Optional: a provider that can tell, without a delivery, whether it could hand one over.

    `pabal doctor` asks it. Of any other provider the doctor only says that it is configured.
    """

    async def check(self) -> Accepted | Deferred | Misconfigured:
        """Go as far as possible with nothing handed over: connect, greet, secure, log in; then take leave.

        `Accepted`: it would work, and `response` says what was seen. `Deferred`: the far side is not there now.
        `Misconfigured`: it will not work until a person changes something. The answer comes within `timeout_seconds`.
        Nothing arrives at the far side, and no secret stands in the answer.
        """
        ...


class CallbackRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider posted to `/v1/receipts/NAME`, as it came. Header names are in lower case."""

    headers: Mapping[str, str]
    body: bytes


@runtime_checkable
class TakesReceipts(Protocol):
    """For a provider whose far side reports later what became of what it took."""

    channel: str
    """As `Provider.channel`: receipts concern deliveries of that channel alone."""

    def receipts(self, request: CallbackRequest) -> Sequence[Receipt]:
        """What a callback reports; empty when it reports nothing of interest. Pure: no I/O, and the same each time.

        A receipt's `id` is `receipt_id` of the far side's own id of the report, so that a callback that comes twice is
        one receipt. Its `provider` is the context's `name`. It names the delivery by our key if the callback echoes
        the key, else by the provider's id (`Accepted.provider_id`). `raw` is its part of the body; None: the whole.

        Raises:
            ReceiptRefused: nothing proves that the far side sent it (no signature, a wrong signature, an old one).
            UnreadableReceipt: the far side sent it, and it cannot be read.
        """
        ...


class ProviderContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider may know besides its own options. `name`: what the configuration calls it."""

    clock: Clock
    name: str = ""
    webhook_secrets: Mapping[str, Sequence[str]] = {}
    """Per tenant, the Standard Webhooks secrets (`whsec_…`), newest first; two while rotating."""


class ProviderFactory(Protocol):
    """The entry point: validates the options (raises ConfigError with the path that is wrong), connects lazily."""

    def __call__(self, options: Mapping[str, Any], context: ProviderContext) -> Provider:
        """Make the provider. Must not do I/O."""
        ...
