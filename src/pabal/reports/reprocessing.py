"""The 24 h reprocessing success rate: of what was dead-lettered, how much was sent within a day. Pure.

The cohort of a window are the deliveries *first* dead-lettered in it. A delivery succeeded when it was sent no later
than 24 hours after that first time, whatever happened in between and however many letters there were: it counts by
delivery, not by record. Two kinds are left out and shown apart: deliveries that a person discarded (with a reason)
and that did not succeed (*excluded*), and deliveries whose 24 hours have not passed (*immature*).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from pabal.notification import Fact
from pabal.store.port import Reprocessed

WITHIN: Final = timedelta(hours=24)

Share = Literal["succeeded", "failed", "excluded", "immature"]


class ReprocessingReport(Fact, frozen=True, kw_only=True):
    """The rate of one window [`since`, `until`), as of an instant. `rate` is None while there is nothing to divide by.

    `cohort` = `denominator` + `excluded` + `immature`. `channels` has the same figures for each channel.
    """

    since: datetime
    until: datetime
    as_of: datetime
    cohort: int
    numerator: int
    denominator: int
    excluded: int
    immature: int
    rate: float | None
    channels: dict[str, "ReprocessingReport"] = msgspec.field(default_factory=dict)

    @property
    def is_mature(self) -> bool:
        """Whether the figures can still change by time passing."""
        return self.as_of >= self.until + WITHIN


def share_of(delivery: Reprocessed, *, as_of: datetime) -> Share:
    """Where a delivery of the cohort counts."""
    deadline = delivery.first_dead_lettered_at + WITHIN
    if as_of < deadline:
        return "immature"
    if delivery.sent_at is not None and delivery.sent_at <= deadline:
        return "succeeded"
    return "excluded" if delivery.discarded_at is not None else "failed"


def report_reprocessing(
    deliveries: Iterable[Reprocessed], *, since: datetime, until: datetime, as_of: datetime
) -> ReprocessingReport:
    """The report on a window, in all and by channel; deliveries outside of it are not counted."""
    by_channel: dict[str, Counter[Share]] = {}
    for delivery in deliveries:
        if since <= delivery.first_dead_lettered_at < until:
            by_channel.setdefault(delivery.channel, Counter())[share_of(delivery, as_of=as_of)] += 1
    channels = {
        channel: _figures(counts, since=since, until=until, as_of=as_of)
        for channel, counts in sorted(by_channel.items())
    }
    total = sum(by_channel.values(), Counter[Share]())
    return msgspec.structs.replace(_figures(total, since=since, until=until, as_of=as_of), channels=channels)


def _figures(counts: Mapping[Share, int], *, since: datetime, until: datetime, as_of: datetime) -> ReprocessingReport:
    succeeded, failed = counts.get("succeeded", 0), counts.get("failed", 0)
    excluded, immature = counts.get("excluded", 0), counts.get("immature", 0)
    denominator = succeeded + failed
    return ReprocessingReport(
        since=since,
        until=until,
        as_of=as_of,
        cohort=denominator + excluded + immature,
        numerator=succeeded,
        denominator=denominator,
        excluded=excluded,
        immature=immature,
        rate=succeeded / denominator if denominator else None,
    )
