"""How a run is judged."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from chaos.account import Account, Allowed, Asked, Row, Told, broken_promises, take_account, true_statuses
from chaos.providers import is_second_peak, steps
from chaos.report import table, written_into
from chaos.rows import read_rows, record

SECOND = 10**9
ASKED = Asked(first_asked_ns=1 * SECOND, accepted_ns=2 * SECOND)
SENT = Told(kinds={"sent"}, attempt=1)


def account_of(
    accepted: Sequence[str],
    *,
    arrived: Mapping[str, Sequence[int]],
    told: Mapping[str, Told],
    unreadable: int = 0,
    fault_over_ns: int = 3 * SECOND,
) -> Account:
    return take_account(
        dict.fromkeys(accepted, ASKED),
        arrived=arrived,
        told=told,
        unreadable=unreadable,
        fault_over_ns=fault_over_ns,
    )


def test_what_was_accepted_arrived_and_told_breaks_nothing() -> None:
    account = account_of(["a"], arrived={"a": [4 * SECOND]}, told={"a": SENT})

    assert broken_promises(account, Allowed(duplicates=0)) == []
    assert (account.accepted, account.sent, account.lost, account.duplicated) == (1, 1, 0, 0)


def test_what_neither_arrived_nor_is_explained_is_lost() -> None:
    account = account_of(["a", "b"], arrived={"a": [4]}, told={"a": SENT, "b": Told(kinds={"deferred"})})

    assert account.lost == 1
    assert broken_promises(account, Allowed(duplicates=0)) == ["1 accepted deliveries were lost"]


def test_an_event_that_claims_a_sending_does_not_explain_why_nothing_arrived() -> None:
    assert account_of(["a"], arrived={}, told={"a": SENT}).lost == 1


@pytest.mark.parametrize("told", [Told(kinds={"expired"}), Told(kinds={"rejected"}), Told(dead=["uncertain"])])
def test_a_final_event_or_a_dead_letter_explains(told: Told) -> None:
    assert account_of(["a"], arrived={}, told={"a": told}).lost == 0


def test_more_duplicates_than_allowed_break_a_promise() -> None:
    account = account_of(["a"], arrived={"a": [4, 5, 6]}, told={"a": SENT})

    assert account.duplicated == 2
    assert broken_promises(account, Allowed(duplicates=2)) == []
    assert broken_promises(account, Allowed(duplicates=1)) == ["2 arrived again, at most 1 may"]


def test_an_arrival_under_an_unknown_id_breaks_a_promise() -> None:
    account = account_of(["a"], arrived={"a": [4], "x": [4]}, told={"a": SENT})

    assert broken_promises(account, Allowed(duplicates=0)) == ["1 arrived under ids that nobody was given"]


def test_an_arrival_that_no_event_tells_of_breaks_a_promise() -> None:
    account = account_of(["a"], arrived={"a": [4]}, told={"a": Told(kinds={"deferred"})})

    assert broken_promises(account, Allowed(duplicates=0)) == ["1 arrived, and no event says so"]


def test_dead_letters_have_to_be_as_many_as_expected() -> None:
    account = account_of(["a"], arrived={"a": [4]}, told={"a": SENT}, unreadable=3)

    assert broken_promises(account, Allowed(duplicates=0, dead=3)) == []
    assert broken_promises(account, Allowed(duplicates=0)) == ["3 dead letters instead of 0"]
    assert broken_promises(account, Allowed(duplicates=0, dead_at_most=2)) == ["3 dead letters, at most 2 may be"]


def test_a_run_in_which_nothing_was_accepted_proves_nothing() -> None:
    account = account_of([], arrived={}, told={})

    assert broken_promises(account, Allowed(duplicates=0)) == ["nothing was accepted, so nothing was proved"]


def test_recovery_ends_with_the_last_that_was_asked_before_the_fault_was_over() -> None:
    later = Asked(first_asked_ns=20 * SECOND, accepted_ns=21 * SECOND)
    account = take_account(
        {"a": ASKED, "dead": ASKED, "late": later},
        arrived={"a": [5 * SECOND], "late": [22 * SECOND]},
        told={"dead": Told(dead=["uncertain"], explained_ns=7 * SECOND)},
        unreadable=0,
        fault_over_ns=3 * SECOND,
    )

    assert account.recovered_after_seconds == 4.0
    assert broken_promises(account, Allowed(duplicates=0, dead=1, recovered_within_seconds=4.0)) == [
        "2 arrived, and no event says so"
    ]
    assert "it took 4.0 s to recover, 3 are promised" in broken_promises(
        account, Allowed(duplicates=0, dead=1, recovered_within_seconds=3.0)
    )


def test_a_row_replaces_the_former_one_of_its_failure_and_log(tmp_path: Path) -> None:
    file = tmp_path / "out" / "chaos.jsonl"
    record([Row(failure="x", log="kafka", lost=1), Row(failure="x", log="embedded", lost=2)], file)

    record([Row(failure="x", log="kafka", lost=0)], file)

    assert [(row.log, row.lost) for row in read_rows(file)] == [("kafka", 0), ("embedded", 2)]


def test_a_line_begins_with_the_fields_that_are_documented() -> None:
    line = msgspec.json.decode(msgspec.json.encode(Row(failure="x", log="kafka")))

    assert list(line)[:9] == [
        "failure",
        "log",
        "accepted",
        "sent",
        "lost",
        "duplicated",
        "uncertain",
        "dead",
        "recovered_after_seconds",
    ]


EMPTY_PAGE = "before\n<!-- chaos table: python -m chaos.report --write -->\n<!-- end of the chaos table -->\nafter\n"


def test_the_table_is_put_between_its_marks_with_a_command_for_each_row() -> None:
    row = Row(failure="x y", log="kafka", accepted=2000, lost=0, duplicated=3, duplicates_allowed=128)
    page = EMPTY_PAGE.replace("-->\n<!--", "-->\nold\n<!--")

    written = written_into(page, table(page, [row], names={"x y": "xy"}))

    assert "| x y | kafka | 2,000 | – | 0 | 3 (128) |" in written
    assert "`xy --log kafka`" in written
    assert "broken" not in written
    assert written.startswith("before\n")
    assert written.endswith("after\n")
    assert "old" not in written


def test_a_broken_promise_shows_in_the_table() -> None:
    row = Row(failure="x", log="kafka", problems=("…",))

    assert "| x **(a promise was broken)** |" in table("", [row], names={"x": "x"})


def test_a_row_of_the_page_that_was_not_run_stays_until_its_scenario_is_gone() -> None:
    names = {"first": "one", "second": "two"}
    rows = [Row(failure=failure, log=log, accepted=1) for failure in names for log in ("embedded", "kafka")]
    page = written_into(EMPTY_PAGE, table(EMPTY_PAGE, rows, names=names))

    anew = table(page, [Row(failure="second", log="kafka", accepted=2)], names=names)
    without = table(page, [], names={"second": "two"})

    assert [line.split(" | ")[:3] for line in anew.splitlines()[2:]] == [
        ["| first", "embedded", "1"],
        ["| first", "kafka", "1"],
        ["| second", "embedded", "1"],
        ["| second", "kafka", "2"],
    ]
    assert [line.split(" | ")[0] for line in without.splitlines()[2:]] == ["| second"] * 2


def test_the_backlog_is_seen_in_steps_of_half_a_second() -> None:
    arrivals = [0, 100_000_000, *range(600_000_000, 600_000_005)]

    assert steps(arrivals) == (2, 5)


@pytest.mark.parametrize(
    ("first", "busiest", "is_peak"), [(100, 200, False), (101, 200, True), (23, 27, True), (300, 300, True)]
)
def test_a_backlog_that_comes_at_once_is_told_from_one_that_comes_in_growing_steps(
    first: int, busiest: int, is_peak: bool
) -> None:
    assert is_second_peak(first, busiest) == is_peak


def test_what_the_store_may_say_follows_from_what_happened() -> None:
    told = {
        "s": SENT,
        "d": Told(dead=["exhausted"]),
        "e": Told(kinds={"expired"}),
        "both": Told(kinds={"sent"}, dead=["uncertain"]),
    }
    arrived = {"s": [1], "d": [1]}

    statuses = {each: true_statuses(each, arrived=arrived, told=told) for each in (*told, "never heard of")}

    assert statuses == {
        "s": {"sent", "delivered"},
        "both": {"sent", "delivered"},
        "d": {"dead_lettered", "discarded"},
        "e": {"expired"},
        "never heard of": set(),
    }
