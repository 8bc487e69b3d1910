"""What a worker has done, as a value: the place where it is counted."""

from collections.abc import Callable

import msgspec

from pabal.notification import EventKind, NotificationClass
from pabal.outcome import Outcome, Verdict


class Deed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One record was dealt with, and the log says so.

    After a crash the same may be told once more, as its event may be.
    """

    kind: EventKind
    """What the delivery's event says."""

    channel: str
    class_: NotificationClass
    verdict: Verdict | None
    """What was decided; None: another worker decided, and this call ended late."""

    provider: str = ""
    """The provider that was called, or would have been; empty: the record could not be read."""

    attempt: int = 0
    """Which attempt was decided about; 0: the record could not be read."""

    outcome: Outcome | None = None
    """What the call came to; None: this worker made none."""

    latency_seconds: float | None = None
    """How long the call took; None: this worker made none."""

    age_seconds: float | None = None
    """From the acceptance (or `send_at`, if that is later) to this; None: the record could not be read."""

    is_redriven: bool = False
    """Whether the delivery came back from the dead letters before."""


Observer = Callable[[Deed], None]
"""Hears of each deed once its records are in the log. In the event loop's thread: it must not wait for anything."""
