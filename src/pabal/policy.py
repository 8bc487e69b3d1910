"""How each class is treated: data, not formulas."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final, Literal

import msgspec

from pabal.notification import NotificationClass

Uncertain = Literal["resend", "dead_letter"]
"""What follows a call that ended without an answer at a provider that does not deduplicate."""

IDEMPOTENCY_HORIZON: Final = timedelta(days=3)
"""For how long after acceptance the same idempotency key is known not to send twice. Ledger rows live at least
that long, and at least a day beyond their delivery's expiry."""


class ClassSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One class: its ladder of delays, time to live, dispatch weight, and what to do with the uncertain.

    `uncertain` is asked when a call ended without an answer at a provider that does not deduplicate.
    """

    ladder_seconds: tuple[int, ...]
    time_to_live_seconds: float
    weight: int
    uncertain: Uncertain

    @property
    def time_to_live(self) -> timedelta:
        """How long after acceptance (or `send_at`) a delivery is still useful."""
        return timedelta(seconds=self.time_to_live_seconds)


DEFAULT_CLASSES: Mapping[NotificationClass, ClassSettings] = {
    "critical": ClassSettings(
        ladder_seconds=(5, 30, 120, 600), time_to_live_seconds=3600, weight=8, uncertain="resend"
    ),
    "standard": ClassSettings(
        ladder_seconds=(30, 120, 600, 1800, 7200), time_to_live_seconds=86400, weight=3, uncertain="dead_letter"
    ),
    "bulk": ClassSettings(
        ladder_seconds=(120, 600, 1800, 7200, 21600), time_to_live_seconds=3 * 86400, weight=1, uncertain="dead_letter"
    ),
}
"""Ladders use the delays that have a topic (`notification.RUNGS_SECONDS`)."""
