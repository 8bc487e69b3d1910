from datetime import UTC, datetime, timedelta

import pytest

from pabal.reports.reprocessing import Share, report_reprocessing, share_of
from pabal.store.port import Reprocessed

DAY = datetime(2026, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
SOON = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("sent_after", "discarded_after", "as_of_after", "share"),
    [
        (HOUR, None, 24 * HOUR, "succeeded"),
        (24 * HOUR, None, 48 * HOUR, "succeeded"),
        (24 * HOUR + SOON, None, 48 * HOUR, "failed"),
        (None, None, 24 * HOUR, "failed"),
        (None, None, 24 * HOUR - SOON, "immature"),
        (HOUR, None, 24 * HOUR - SOON, "immature"),
        (None, HOUR, 23 * HOUR, "immature"),
        (None, HOUR, 24 * HOUR, "excluded"),
        (None, 30 * HOUR, 48 * HOUR, "excluded"),
        (HOUR, 2 * HOUR, 24 * HOUR, "succeeded"),
        (25 * HOUR, 2 * HOUR, 48 * HOUR, "excluded"),
    ],
)
def test_where_a_delivery_counts(
    sent_after: timedelta | None, discarded_after: timedelta | None, as_of_after: timedelta, share: Share
) -> None:
    delivery = Reprocessed(
        channel="webhook",
        first_dead_lettered_at=DAY,
        sent_at=DAY + sent_after if sent_after else None,
        discarded_at=DAY + discarded_after if discarded_after else None,
    )

    assert share_of(delivery, as_of=DAY + as_of_after) == share


def test_the_rate_is_of_those_that_are_mature_and_not_discarded_and_the_others_are_shown() -> None:
    deliveries = [
        *(Reprocessed(channel="webhook", first_dead_lettered_at=DAY, sent_at=DAY + HOUR) for _ in range(3)),
        Reprocessed(channel="webhook", first_dead_lettered_at=DAY),
        Reprocessed(channel="webhook", first_dead_lettered_at=DAY, discarded_at=DAY + HOUR),
        Reprocessed(channel="webhook", first_dead_lettered_at=DAY + 23 * HOUR, sent_at=DAY + 23 * HOUR),
    ]

    report = report_reprocessing(deliveries, since=DAY, until=DAY + 24 * HOUR, as_of=DAY + 30 * HOUR)

    assert (report.numerator, report.denominator, report.rate) == (3, 4, 0.75)
    assert (report.excluded, report.immature, report.cohort) == (1, 1, 6)
    assert not report.is_mature


def test_the_window_is_closed_at_its_start_and_open_at_its_end() -> None:
    deliveries = [
        Reprocessed(channel="webhook", first_dead_lettered_at=DAY - SOON),
        Reprocessed(channel="webhook", first_dead_lettered_at=DAY),
        Reprocessed(channel="webhook", first_dead_lettered_at=DAY + HOUR),
    ]

    report = report_reprocessing(deliveries, since=DAY, until=DAY + HOUR, as_of=DAY + 48 * HOUR)

    assert report.cohort == 1
    assert report.is_mature


def test_nothing_to_divide_by_is_no_rate() -> None:
    assert report_reprocessing([], since=DAY, until=DAY + HOUR, as_of=DAY + 48 * HOUR).rate is None


def test_each_channel_has_figures_of_its_own() -> None:
    deliveries = [
        Reprocessed(channel="webhook", first_dead_lettered_at=DAY, sent_at=DAY + HOUR),
        Reprocessed(channel="email", first_dead_lettered_at=DAY),
    ]

    report = report_reprocessing(deliveries, since=DAY, until=DAY + HOUR, as_of=DAY + 48 * HOUR)

    assert report.rate == 0.5
    assert {channel: figures.rate for channel, figures in report.channels.items()} == {"email": 0.0, "webhook": 1.0}
