from datetime import UTC, datetime, timedelta

import pytest

from pabal.dlq.letters.selection import Dimension, Selection, count_by, matches, parse_instant
from pabal.errors import ConfigError
from tests.dlq.letters import NOW, a_delivery, a_letter


@pytest.mark.parametrize(
    ("selection", "is_meant"),
    [
        (Selection(), True),
        (Selection(channels=("webhook",)), True),
        (Selection(channels=("email", "webhook")), True),
        (Selection(channels=("email",)), False),
        (Selection(error_classes=("exhausted",)), True),
        (Selection(error_classes=("uncertain",)), False),
        (Selection(providers=("webhook",)), True),
        (Selection(providers=("smtp",)), False),
        (Selection(tenants=("shop",)), True),
        (Selection(tenants=("bank",)), False),
        (Selection(classes=("standard",)), True),
        (Selection(classes=("bulk",)), False),
        (Selection(deliveries=(a_delivery(1).id,)), True),
        (Selection(deliveries=(a_delivery(2).id,)), False),
        (Selection(letters=("webhook/0/5",)), True),
        (Selection(letters=("webhook/0/6",)), False),
        (Selection(since=NOW), True),
        (Selection(since=NOW + timedelta(seconds=1)), False),
        (Selection(until=NOW + timedelta(seconds=1)), True),
        (Selection(until=NOW), False),
        (Selection(channels=("webhook",), tenants=("bank",)), False),
    ],
)
def test_a_letter_must_fit_every_filter_that_is_given(selection: Selection, *, is_meant: bool) -> None:
    assert matches(selection, a_letter(a_delivery(1), offset=5)) is is_meant


@pytest.mark.parametrize("selection", [Selection(tenants=("shop",)), Selection(deliveries=(a_delivery().id,))])
def test_bytes_that_nobody_can_read_belong_to_nobody(selection: Selection) -> None:
    assert not matches(selection, a_letter(None))


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        ("7d", NOW - timedelta(days=7)),
        ("1w", NOW - timedelta(weeks=1)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T08:30", datetime(2026, 1, 1, 8, 30, tzinfo=UTC)),
        ("2026-01-01T08:30:00+09:00", datetime(2025, 12, 31, 23, 30, tzinfo=UTC)),
    ],
)
def test_a_person_gives_an_age_or_a_time(text: str, instant: datetime) -> None:
    assert parse_instant(text, now=NOW) == instant


@pytest.mark.parametrize("text", ["", "yesterday", "2 fortnights", "h", "-2h", "99999999d"])
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ConfigError, match="write 2h, 30m or 7d"):
        parse_instant(text, now=NOW)


def test_letters_are_counted_by_what_they_share_the_most_frequent_first() -> None:
    early = NOW - timedelta(hours=5)
    letters = [
        a_letter(a_delivery(1), at=early),
        a_letter(a_delivery(2)),
        a_letter(a_delivery(3), error_class="uncertain"),
    ]

    groups = count_by([(letter, "open") for letter in letters], dimensions=("channel", "error_class"), now=NOW)

    assert [(group.values["error_class"], group.count) for group in groups] == [("exhausted", 2), ("uncertain", 1)]
    assert (groups[0].oldest, groups[0].newest) == (early, NOW)


@pytest.mark.parametrize(
    ("dimension", "value"),
    [
        ("provider", "webhook"),
        ("tenant", "shop"),
        ("class", "standard"),
        ("state", "redriven"),
        ("age", "1 h to 1 day"),
    ],
)
def test_letters_can_be_counted_by_anything_known_of_them(dimension: Dimension, value: str) -> None:
    letter = a_letter(a_delivery(), at=NOW - timedelta(hours=2))

    [group] = count_by([(letter, "redriven")], dimensions=(dimension,), now=NOW)

    assert group.values == {dimension: value}
