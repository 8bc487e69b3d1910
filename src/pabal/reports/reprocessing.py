"""The 24 h reprocessing success rate: of what was dead-lettered, how much was sent within a day. Pure.

The cohort of a window are the deliveries *first* dead-lettered in it. A delivery succeeded when it was sent no later
than 24 hours after that first time, whatever happened in between and however many letters there were: it counts by
delivery, not by record. Left out and shown apart: *excluded* are those that a person discarded (with a reason) and
that did not succeed; *immature* are those whose 24 hours have not passed.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final, Literal

import msgspec

from pabal.notification import Fact

WITHIN: Final = timedelta(hours=24)

Share = Literal["succeeded", "failed", "excluded", "immature"]


class Reprocessed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of one delivery: when it was first given up, when it was sent and discarded (None: it was not)."""

    first_dead_lettered_at: datetime
    sent_at: datetime | None = None
    discarded_at: datetime | None = None


class ReprocessingReport(Fact, frozen=True, kw_only=True):
    """The rate of one window [`since`, `until`), as of an instant. `rate` is None while there is nothing to divide by.

    `cohort` = `denominator` + `excluded` + `immature`.
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
    """The report on a window; deliveries outside of it are not counted."""
    counts: dict[Share, int] = {"succeeded": 0, "failed": 0, "excluded": 0, "immature": 0}
    for delivery in deliveries:
        if since <= delivery.first_dead_lettered_at < until:
            counts[share_of(delivery, as_of=as_of)] += 1
    denominator = counts["succeeded"] + counts["failed"]
    return ReprocessingReport(
        since=since,
        until=until,
        as_of=as_of,
        cohort=sum(counts.values()),
        numerator=counts["succeeded"],
        denominator=denominator,
        excluded=counts["excluded"],
        immature=counts["immature"],
        rate=counts["succeeded"] / denominator if denominator else None,
    )
