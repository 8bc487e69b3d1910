"""What is left to API processes and how redrives stand, told by the facts in the audit log."""

from datetime import timedelta

import msgspec
import pytest

from pabal.audit import AUDIT_SCHEMA, AuditFact, audit_id
from pabal.broker.port import Record
from pabal.dlq.letters.marks import REDRIVEN, Mark
from pabal.dlq.letters.selection import Selection
from pabal.dlq.redrive.answers import Tally
from pabal.dlq.redrive.book import Book, cancel_fact, request_fact
from pabal.dlq.redrive.plan import Plan, Rules
from pabal.dlq.redrive.run import ENDED, STARTED, Ending, Start
from pabal.dlq.redrive.stepping import Pace
from pabal.errors import DecodeError
from pabal.notification import AUDIT_TOPIC, Fact
from tests.dlq.letters import NOW

PLAN = Plan(id="p-1", made_at=NOW, by="ana", selection=Selection(), rules=Rules(), ends={}, counts={}, error_classes={})


PACE = Pace()


def requested(token: str = "r-1", *, pace: Pace = PACE) -> AuditFact:
    return request_fact(PLAN, pace=pace, by="ana", reason="mended", at=NOW, token=token)


def cancelled() -> AuditFact:
    return cancel_fact("p-1", by="ben", at=NOW, token="c")


def started(run: str = "run-1") -> AuditFact:
    return fact(STARTED, Start(plan=PLAN, pace=Pace(), run=run, host="here"), occasion=run)


def ended(how: str, *, run: str = "run-1") -> AuditFact:
    return fact(ENDED, Ending(ended=how, message="", tally=Tally(), run=run), occasion=run)


def fact(action: str, detail: Fact, *, occasion: str = "x") -> AuditFact:
    return AuditFact(
        id=audit_id(action=action, subject="plan/p-1", occasion=occasion),
        action=action,
        subject="plan/p-1",
        by="ana",
        at=NOW,
        detail=msgspec.to_builtins(detail),
    )


@pytest.mark.parametrize(
    ("facts", "state", "is_left"),
    [
        ([requested()], "waiting", True),
        ([requested(), started()], "waiting", True),
        ([requested(), started(), ended("completed")], "completed", False),
        ([requested(), started(), ended("aborted")], "aborted", False),
        ([requested(), started(), ended("failed")], "failed", False),
        ([requested(), started(), ended("interrupted")], "waiting", True),
        ([requested(), started(), ended("interrupted"), started("run-2")], "waiting", True),
        ([requested(), started(), ended("interrupted"), started("run-2"), ended("completed", run="run-2")]
         , "completed", False),
        # The first run stood still, and speaks when it has been relieved.
        ([requested(), started(), started("run-2"), ended("failed")], "waiting", True),
        ([requested(), cancelled()], "cancelled", False),
        ([requested(), started(), cancelled()], "cancelled", False),
        # Taken up in the moment in which it was cancelled.
        ([requested(), cancelled(), started()], "cancelled", False),
        ([requested(), started(), ended("interrupted"), cancelled()], "cancelled", False),
        ([requested(), started(), cancelled(), requested("r-2"), ended("cancelled")], "waiting", True),
        ([requested(), started(), ended("aborted"), requested("r-2")], "waiting", True),
        ([requested(), started(), ended("completed"), started("run-2")], "broken", False),
        ([started()], "broken", False),
        ([started(), cancelled()], "broken", False),
        ([started(), ended("interrupted")], "interrupted", False),
        ([started(), ended("unanswered")], "unanswered", False),
        ([started(), requested()], "waiting", True),
    ],
)  # fmt: skip
def test_a_redrive_that_was_begun_over_http_is_left_to_api_processes_until_it_has_ended(
    facts: list[AuditFact], state: str, *, is_left: bool
) -> None:
    book = Book()
    for each in facts:
        book.take(each)

    assert [order.plan.id for order in book.orders()] == ["p-1"] * is_left
    assert book.view("p-1", is_running=False).state == state


@pytest.mark.parametrize("facts", [[requested(), started()], [started()], [requested(), started(), cancelled()]])
def test_a_redrive_whose_claim_holds_is_running(facts: list[AuditFact]) -> None:
    book = Book()
    for each in facts:
        book.take(each)

    view = book.view("p-1", is_running=True)

    assert (view.state, view.host, view.runs) == ("running", "here", 1)


def test_what_is_asked_for_twice_before_it_has_ended_is_one_order_at_the_first_pace() -> None:
    book = Book()
    book.take(requested("r-1", pace=Pace(per_second=1.0)))
    book.take(requested("r-2", pace=Pace(per_second=2.0)))

    [order] = book.orders()

    assert (order.id, order.pace.per_second, order.by, order.reason) == (requested("r-1").id, 1.0, "ana", "mended")


def test_a_cancelled_order_is_named_so_that_only_its_own_run_is_stopped() -> None:
    book = Book()
    for each in (requested("r-1"), cancelled()):
        book.take(each)
    of_the_first = book.entries["p-1"].cancelled
    book.take(requested("r-2"))

    assert of_the_first == requested("r-1").id
    assert book.entries["p-1"].cancelled is None


def test_facts_that_make_no_sense_change_nothing() -> None:
    book = Book()

    with pytest.raises(DecodeError):
        book.take(msgspec.structs.replace(requested(), detail={"plan": "?"}))
    book.take(cancelled())
    book.take(ended("completed"))

    assert book.entries == {}


HISTORIES = [
    [requested(), started(), ended("completed")],
    [requested(), started(), ended("interrupted"), started("run-2"), ended("completed", run="run-2")],
    [requested(), cancelled()],
    [requested(), started(), cancelled(), requested("r-2"), ended("cancelled")],
]


@pytest.mark.parametrize("facts", HISTORIES)
def test_a_fact_that_is_appended_again_changes_nothing(facts: list[AuditFact]) -> None:
    for again in facts:
        once, twice = Book(), Book()
        for each in facts:
            once.take(each)
        for each in (*facts, again):
            twice.take(each)

        assert twice.view("p-1", is_running=False) == once.view("p-1", is_running=False)
        assert list(twice.orders()) == list(once.orders())


def test_a_letter_that_is_marked_twice_by_one_fact_is_counted_once() -> None:
    book, mark = Book(), fact(REDRIVEN, Mark(matter="m", plan="p-1"))

    for each in (requested(), mark, mark):
        book.take(each)

    assert book.view("p-1", is_running=False).redriven == 1


def test_the_copy_of_a_fact_from_before_all_that_is_known_is_no_new_order() -> None:
    book = Book(since=NOW + timedelta(days=1))

    book.take(requested())

    assert list(book.orders()) == []


@pytest.mark.parametrize("value", [None, b"", b"{", b"[" * 100_000, b"\xff", b'{"id": 3}'])
def test_a_fact_that_cannot_be_read_changes_nothing_and_is_counted(value: bytes | None) -> None:
    book = Book()
    headers = (("schema", AUDIT_SCHEMA), ("x-action", STARTED.encode()))
    book.take(requested())

    book.read(Record(topic=AUDIT_TOPIC, partition=0, offset=7, timestamp=0.0, key=None, value=value, headers=headers))

    assert book.unreadable.count == 1
    assert [order.plan.id for order in book.orders()] == ["p-1"]
