import pytest

from pabal.guard.brake_trigger import WINDOW_SECONDS, BrakeTrigger


@pytest.mark.parametrize(
    ("read", "unreadable", "brakes"),
    [(99, 99, False), (100, 100, True), (200, 100, True), (201, 100, False), (100_000, 5_000, False)],
    ids=["too few", "enough", "half", "less than half", "many among many more"],
)
def test_it_brakes_on_ratio_and_volume_together(read: int, unreadable: int, brakes: bool) -> None:
    brake = BrakeTrigger(ratio=0.5, records=100)

    assert brake.note(read=read, unreadable=unreadable, now=0.0) is brakes


def test_what_comes_in_several_polls_counts_together_within_the_window() -> None:
    brake = BrakeTrigger(ratio=0.5, records=100)

    assert not brake.note(read=60, unreadable=60, now=0.0)
    assert brake.note(read=60, unreadable=60, now=WINDOW_SECONDS - 1)


def test_what_came_long_ago_does_not_count() -> None:
    brake = BrakeTrigger(ratio=0.5, records=100)

    brake.note(read=60, unreadable=60, now=0.0)

    assert not brake.note(read=60, unreadable=60, now=WINDOW_SECONDS)


def test_good_records_alone_do_not_brake_after_bad_ones() -> None:
    brake = BrakeTrigger(ratio=0.5, records=100)
    brake.note(read=100, unreadable=100, now=0.0)

    assert not brake.note(read=10, unreadable=0, now=1.0)


def test_once_released_it_does_not_brake_until_the_time_given() -> None:
    brake = BrakeTrigger(ratio=0.5, records=100)
    brake.note(read=100, unreadable=100, now=0.0)

    brake.release(until=600.0)

    assert not brake.note(read=500, unreadable=500, now=599.0)
    assert brake.note(read=500, unreadable=500, now=600.0)
