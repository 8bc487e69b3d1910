"""Who runs, who is silent, which role is missing, and what the owners of partitions say."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pabal.groups import RoleName
from pabal.monitor.fleet import FORGET_SECONDS, MOST_PROCESSES, SILENT_SECONDS, Fleet
from pabal.monitor.samples import Place
from pabal.status.records import GroupStatus, PartitionStatus, ProcessStatus
from pabal.telemetry.meter import NumberSeries, Snapshot

NOW = 1_000.0
STARTED = datetime(2026, 12, 1, tzinfo=UTC)
FIGURES = Snapshot(numbers=(NumberSeries("pabal_retries_total", ("webhook", "critical"), 3.0),))


def a_status(instance: str = "one", **changes: Any) -> ProcessStatus:
    values: dict[str, Any] = {
        "roles": ("worker",), "version": "1", "state": "running", "at": STARTED, "started_at": STARTED
    }  # fmt: skip
    return ProcessStatus(instance=instance, **values | changes)


def missing(fleet: Fleet, now: float = NOW, expected: Mapping[RoleName, int] = {}) -> dict[str, tuple[int, int]]:
    return {each.role: (each.running, each.expected) for each in fleet.missing(expected, now)}


@pytest.mark.parametrize(
    ("state", "silent_for", "runs"),
    [
        ("running", 0.0, True),
        ("running", SILENT_SECONDS - 0.1, True),
        ("running", SILENT_SECONDS, False),
        ("stopped", 0.0, False),
    ],
)
def test_a_process_runs_that_told_so_within_three_periods(state: str, silent_for: float, runs: bool) -> None:
    fleet = Fleet()
    fleet.note(a_status(state=state), now=NOW, age_seconds=silent_for)

    [process] = fleet.processes()
    assert process.is_running(NOW) == runs


def test_nothing_is_expected_of_a_role_that_was_never_seen_and_one_of_each_that_was() -> None:
    fleet = Fleet()
    assert missing(fleet) == {}

    fleet.note(a_status(roles=("worker", "api")), now=NOW)

    assert missing(fleet) == {}
    assert missing(fleet, NOW + SILENT_SECONDS) == {"api": (0, 1), "worker": (0, 1)}


def test_as_many_are_expected_as_the_configuration_says() -> None:
    fleet = Fleet()
    fleet.note(a_status("one"), now=NOW)

    assert missing(fleet, expected={"worker": 2, "recorder": 1}) == {"worker": (1, 2), "recorder": (0, 1)}
    assert missing(fleet, NOW + SILENT_SECONDS, expected={"worker": 0}) == {}


def test_a_restart_misses_nothing_and_a_process_that_stopped_and_stays_away_is_missed_like_any_other() -> None:
    fleet = Fleet()
    fleet.note(a_status(state="stopped"), now=NOW)

    assert missing(fleet) == {}
    [found] = fleet.missing({}, NOW + SILENT_SECONDS)
    assert found.last is not None
    assert found.last.status.state == "stopped"


def test_figures_that_a_status_leaves_out_are_those_of_the_status_before_until_the_process_starts_anew() -> None:
    fleet = Fleet()
    fleet.note(a_status(figures=FIGURES), now=NOW)
    fleet.note(a_status(), now=NOW)
    [before] = fleet.processes()
    fleet.note(a_status(started_at=STARTED + timedelta(seconds=1)), now=NOW)
    [after] = fleet.processes()

    assert (before.figures, after.figures) == (FIGURES, Snapshot())


def test_only_a_process_that_runs_speaks_for_its_partitions() -> None:
    group = GroupStatus(group="g", held="brake", partitions=(PartitionStatus("t", 0, 7, 12),))
    fleet = Fleet()
    fleet.note(a_status("one", groups=(group,)), now=NOW)

    owner = fleet.owners(NOW)[Place("g", "t", 0)]

    assert (owner.held, owner.ended, owner.highest_ended, owner.is_polling) == ("brake", 7, 12, True)
    assert fleet.owners(NOW + SILENT_SECONDS) == {}


def test_of_two_processes_that_claim_a_partition_the_one_that_spoke_last_owns_it() -> None:
    fleet = Fleet()
    for instance, held in (("b", "guard"), ("a", "brake"), ("b", "directive")):
        group = GroupStatus(group="g", held=held, partitions=(PartitionStatus("t", 0, 0),))
        fleet.note(a_status(instance, groups=(group,)), now=NOW)

    assert fleet.owners(NOW)[Place("g", "t", 0)].held == "directive"


def test_of_a_role_that_is_missing_the_process_that_was_heard_of_last_is_named() -> None:
    fleet = Fleet()
    fleet.note(a_status("late"), now=NOW, age_seconds=40)
    fleet.note(a_status("early"), now=NOW, age_seconds=90)

    [found] = fleet.missing({}, NOW)
    assert found.last is not None
    assert found.last.status.instance == "late"


def test_a_process_of_yesterday_is_forgotten_and_of_too_many_the_longest_silent() -> None:
    fleet = Fleet()
    fleet.note(a_status("old"), now=NOW)
    fleet.note(a_status("new"), now=NOW + 1)
    fleet.forget_old(NOW + FORGET_SECONDS)
    assert [each.status.instance for each in fleet.processes()] == ["new"]

    for number in range(MOST_PROCESSES):
        fleet.note(a_status(f"{number}"), now=NOW + 2)

    assert len(fleet.processes()) == MOST_PROCESSES
    assert "new" not in {each.status.instance for each in fleet.processes()}
