"""Deeds are counted under the labels of the table, each as what it was."""

from datetime import UTC, datetime
from typing import Any

import pytest

from pabal.notification import NotificationClass
from pabal.outcome import (
    Accepted,
    DeadLetter,
    Deferred,
    Done,
    Expired,
    Outcome,
    Park,
    Refused,
    Rejected,
    RetryAt,
    Verdict,
)
from pabal.telemetry.meter import Meter
from pabal.worker.deed import Deed
from pabal.worker.metering import DeedCounter

NOW = datetime(2026, 12, 1, tzinfo=UTC)
CHANNEL, PROVIDER = "webhook", "hooks"
CLASS: NotificationClass = "critical"
RETRY = RetryAt(due=NOW, rung=1)
DEAD = DeadLetter(error_class="exhausted", message="503")


def counted(kind: Any, *, outcome: Outcome | None = None, verdict: Verdict | None, **more: Any) -> dict[str, float]:
    """What one deed adds: the value of each series by its name and labels, without those that are always there."""
    meter = Meter()
    latency = None if outcome is None else 0.25
    deed = Deed(
        kind=kind, channel=CHANNEL, class_=CLASS, provider=PROVIDER, outcome=outcome, verdict=verdict,
        latency_seconds=latency, attempt=1, **{"age_seconds": 3.0, **more},
    )  # fmt: skip
    DeedCounter(meter)(deed)
    snapshot = meter.snapshot()
    series = {" ".join((each.name, *each.labels)): each.value for each in snapshot.numbers}
    return series | {" ".join((each.name, *each.labels)): each.sum for each in snapshot.histograms}


CALLED = {"pabal_attempt_duration_seconds webhook hooks": 0.25}


@pytest.mark.parametrize(
    ("told", "series"),
    [
        (
            counted("sent", outcome=Accepted(), verdict=Done()),
            {
                **CALLED,
                "pabal_attempts_total webhook critical hooks accepted": 1,
                "pabal_ended_total webhook critical sent": 1,
                "pabal_time_to_send_seconds webhook critical": 3.0,
            },
        ),
        (
            counted("sent", outcome=Accepted(), verdict=Done(), is_redriven=True),
            {
                **CALLED,
                "pabal_attempts_total webhook critical hooks accepted": 1,
                "pabal_ended_total webhook critical sent": 1,
                "pabal_redriven_total webhook sent": 1,
            },
        ),
        (
            counted("deferred", outcome=Deferred(reason="503"), verdict=RETRY),
            {
                **CALLED,
                "pabal_attempts_total webhook critical hooks deferred": 1,
                "pabal_retries_total webhook critical": 1,
            },
        ),
        (
            counted("rejected", outcome=Rejected(reason="410"), verdict=Refused(reason="410")),
            {
                **CALLED,
                "pabal_attempts_total webhook critical hooks rejected": 1,
                "pabal_ended_total webhook critical rejected": 1,
            },
        ),
        (
            counted("dead_lettered", outcome=Deferred(reason="503"), verdict=DEAD),
            {
                **CALLED,
                "pabal_attempts_total webhook critical hooks deferred": 1,
                "pabal_ended_total webhook critical dead_lettered": 1,
                "pabal_dead_letters_total webhook exhausted": 1,
            },
        ),
        (counted("parked", verdict=Park(due=NOW)), {"pabal_parks_total webhook critical": 1}),
        (counted("expired", verdict=Expired()), {"pabal_ended_total webhook critical expired": 1}),
        (
            counted("deferred", outcome=Deferred(reason="late"), verdict=None),
            {**CALLED, "pabal_attempts_total webhook critical hooks deferred": 1},
        ),
    ],
    ids=["sent", "sent after a redrive", "retry", "rejected", "dead letter", "park", "expired", "ended late"],
)
def test_a_deed_is_counted_as_what_it_was(told: dict[str, float], series: dict[str, float]) -> None:
    assert told == series
