"""Who carries a delivery to its recipient: an SMTP server, a webhook endpoint, Twilio, FCM.

A provider *translates*: it takes what a channel rendered and answers with an `Outcome`. It does not retry, sleep,
count or decide; that is the worker's. Third parties add one by an entry point in the group `pabal.providers`:
a callable `create(options, context) -> Provider`; `pabal.testing.ProviderContract` says what it must keep.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import msgspec

from pabal.channels.port import Rendered
from pabal.clock import Clock
from pabal.outcome import Outcome


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


class ProviderContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider may know besides its own options."""

    clock: Clock
    webhook_secrets: Mapping[str, Sequence[str]] = {}
    """Per tenant, the Standard Webhooks secrets (`whsec_…`), newest first; two while rotating."""


class ProviderFactory(Protocol):
    """The entry point: validates the options (raises ConfigError with the path that is wrong), connects lazily."""

    def __call__(self, options: Mapping[str, Any], context: ProviderContext) -> Provider:
        """Make the provider. Must not do I/O."""
        ...
