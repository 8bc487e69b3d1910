"""`pabal dlq` and `pabal report` as a person meets them: every command, its output and its refusals."""

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from pabal.audit import read_audit
from pabal.cli.dlq import dlq
from pabal.cli.main import main
from pabal.clock import SystemClock
from pabal.codec import event_record
from pabal.notification import AUDIT_TOPIC
from pabal.store.sql import SqlStore
from tests.dlq.lab import Lab, an_event

MANUAL = (Path(__file__).parents[2] / "docs" / "dead-letters.md").read_text(encoding="utf-8")

Arrange = Callable[[Callable[[Lab], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def arrange(tmp_path: Path) -> Arrange:
    """Prepares the log in the folder that the commands are given."""

    def run(prepare: Callable[[Lab], Coroutine[Any, Any, None]]) -> None:
        async def with_lab() -> None:
            async with Lab.open(tmp_path) as lab:
                await prepare(lab)

        asyncio.run(with_lab())

    return run


@pytest.fixture
def pabal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PABAL_DATA", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(main, arguments)


async def three_letters(lab: Lab) -> None:
    await lab.bury(lab.delivery(1), lab.delivery(2))
    await lab.bury(None)


def test_letters_are_listed_in_a_table_and_as_json(arrange: Arrange, pabal: Callable[..., Result]) -> None:
    arrange(three_letters)

    table = pabal("dlq", "list", "--limit", "2")
    page = json.loads(pabal("dlq", "list", "--json").output)

    assert table.exit_code == 0
    assert "webhook/0/2" in table.output
    assert "the newest 2 of 3" in table.output
    assert [letter["letter"] for letter in page["letters"]] == ["webhook/0/2", "webhook/0/1", "webhook/0/0"]
    assert page["letters"][1]["tenant"] == "shop"


def test_a_letter_is_shown_with_delivery_headers_and_history_and_unreadable_bytes_as_hex(
    arrange: Arrange, pabal: Callable[..., Result]
) -> None:
    async def prepare(lab: Lab) -> None:
        await three_letters(lab)
        await lab.append(event_record(an_event(lab.delivery(1), "dead_lettered", at=lab.clock.now())))

    arrange(prepare)

    readable, unreadable = pabal("dlq", "show", "webhook/0/0"), pabal("dlq", "show", "webhook/0/2")
    detail = json.loads(pabal("dlq", "show", "webhook/0/0", "--json").output)

    for words in (
        "exhausted: 503 Service Unavailable",
        '"address": "https://example.com/hook"',
        "x-group",
        "dead_lett",
    ):
        assert words in readable.output
    assert "ff 00 6a 75 6e 6b" in unreadable.output
    assert detail["history"][0]["kind"] == "dead_lettered"


def test_the_history_comes_from_the_store_when_there_is_one(
    arrange: Arrange, pabal: Callable[..., Result], tmp_path: Path
) -> None:
    async def prepare(lab: Lab) -> None:
        await lab.bury(lab.delivery(1))
        store = SqlStore(f"sqlite:{tmp_path / 'store.db'}", clock=SystemClock())
        await store.fold([an_event(lab.delivery(1), "deferred", attempt=1, at=lab.clock.now())])
        await store.close()

    arrange(prepare)

    detail = json.loads(pabal("dlq", "show", "webhook/0/0", "--json").output)

    assert [entry["kind"] for entry in detail["history"]] == ["deferred"]


def test_letters_are_counted_by_what_is_asked_for(arrange: Arrange, pabal: Callable[..., Result]) -> None:
    arrange(three_letters)

    table = pabal("dlq", "stats")
    groups = json.loads(pabal("dlq", "stats", "--by", "tenant", "--json").output)

    assert re.search(r"webhook +exhausted +2", table.output)
    assert [(group["values"]["tenant"], group["count"]) for group in groups] == [("shop", 2), ("", 1)]


def test_a_plan_is_written_carried_out_and_looked_up(
    arrange: Arrange, pabal: Callable[..., Result], tmp_path: Path
) -> None:
    async def prepare(lab: Lab) -> None:
        await three_letters(lab)
        # Sent after all: the redrive has nothing to wait for.
        await lab.append(event_record(an_event(lab.delivery(1), "sent", at=lab.clock.now())))
        await lab.append(event_record(an_event(lab.delivery(2), "sent", at=lab.clock.now())))

    arrange(prepare)

    planned = pabal("dlq", "plan", "--out", "plan.json", "--by", "ana")
    carried = pabal("dlq", "redrive", "plan.json", "--reason", "mended", "--by", "ana", "--json")
    [view] = json.loads(pabal("dlq", "status", "--json").output)

    assert re.search(r"2 +sent +already sent", planned.output)
    assert re.search(r"1 +undecodable +cannot be decoded", planned.output)
    assert carried.exit_code == 0, carried.output
    assert json.loads(carried.stdout)["resolved"] == 2
    assert (view["state"], view["by"], view["reason"]) == ("completed", "ana", "mended")
    assert json.loads((tmp_path / "plan.json").read_text())["id"] == view["plan"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list",), "there are no open dead letters\n"),
        (("list", "--state", "any"), "there are no dead letters\n"),
        (("list", "--tenant", "shop"), "no open dead letters fit the filters\n"),
        (("stats", "--tenant", "shop"), "no open dead letters fit the filters\n"),
        (("plan",), "there are no dead letters\nnothing to redrive: no plan was written\n"),
        (("plan", "--tenant", "shop"), "no dead letters fit the filters\nnothing to redrive: no plan was written\n"),
    ],
)
def test_where_there_is_no_letter_it_says_whether_there_is_none_at_all(
    arrange: Arrange, pabal: Callable[..., Result], arguments: tuple[str, ...], says: str
) -> None:
    async def nothing(lab: Lab) -> None:
        del lab

    arrange(nothing)

    assert pabal("dlq", *arguments).output == says


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_plan_with_nothing_to_do_is_not_written(
    arrange: Arrange, pabal: Callable[..., Result], tmp_path: Path, options: tuple[str, ...]
) -> None:
    arrange(three_letters)

    planned = pabal("dlq", "plan", "--error", "undecodable", *options)

    assert planned.exit_code == 0
    assert "nothing to redrive: no plan was written" in planned.output
    assert list(tmp_path.glob("plan*")) == []
    if "--json" in options:
        assert json.loads(planned.stdout)["counts"] == {"undecodable": 1}


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_in_a_file_that_is_named_no_plan_of_yesterday_stays(
    arrange: Arrange, pabal: Callable[..., Result], tmp_path: Path, options: tuple[str, ...]
) -> None:
    arrange(three_letters)
    pabal("dlq", "plan", "--out", "plan.json")
    before = json.loads((tmp_path / "plan.json").read_text())

    planned = pabal("dlq", "plan", "--error", "undecodable", "--out", "plan.json", *options)

    assert planned.exit_code == 0
    assert "nothing to redrive: the plan in plan.json is empty" in planned.output
    assert json.loads((tmp_path / "plan.json").read_text())["id"] != before["id"]


def test_a_redrive_without_a_worker_ends_with_a_word_and_status_1(
    arrange: Arrange, pabal: Callable[..., Result]
) -> None:
    arrange(three_letters)
    pabal("dlq", "plan", "--out", "plan.json")

    carried = pabal("dlq", "redrive", "plan.json", "--reason", "x", "--patience", "0.2")
    status = pabal("dlq", "status")

    assert carried.exit_code == 1
    assert "is a worker running" in carried.output
    assert re.search(r"unanswered +2 of 2", status.output)


def test_an_edit_says_what_will_be_sent_and_how(arrange: Arrange, pabal: Callable[..., Result]) -> None:
    arrange(three_letters)

    edited = pabal("dlq", "edit", "webhook/0/0", "--address", "https://new.example/", "--reason", "moved")
    refused = pabal("dlq", "edit", "webhook/0/0", "--provider", "pigeon", "--reason", "x")

    assert "will go to https://new.example/ under the key" in edited.output
    assert (refused.exit_code, refused.output.count("Traceback")) == (1, 0)
    assert "no provider 'pigeon' carries webhook here; there are: webhook" in refused.output


def test_letters_are_discarded_by_name_or_by_filter_after_a_question(
    arrange: Arrange, pabal: Callable[..., Result], tmp_path: Path
) -> None:
    arrange(three_letters)

    by_name = pabal("dlq", "discard", "webhook/0/0", "--reason", "gone", "--by", "ana")
    asked = pabal("dlq", "discard", "--error", "undecodable", "--reason", "junk")
    by_filter = pabal("dlq", "discard", "--error", "undecodable", "--reason", "junk", "--by", "ben", "--yes")

    assert by_name.output == "1 discarded\n"
    assert (asked.exit_code, "Discard 1 open dead letters" in asked.output) == (1, True)
    assert by_filter.output == "1 discarded\n"

    facts: list[tuple[str, str | None]] = []

    async def look(lab: Lab) -> None:
        facts.extend((fact.by, fact.reason) for fact in map(read_audit, await lab.records(AUDIT_TOPIC)))

    arrange(look)
    assert facts == [("ana", "gone"), ("ben", "junk")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list", "--since", "yesterday"), "write 2h, 30m or 7d"),
        (("list", "--channel", "fax"), "there are: email, webhook, unknown"),
        (("show", "17"), "such as webhook/0/17"),
        (("show", "webhook/0/99"), "webhook/0 keeps 0 to 2"),
        (("redrive", "nowhere.json", "--reason", "x"), "make one with: pabal dlq plan"),
        (("redrive", "other.json", "--reason", "x"), "is not a plan of `pabal dlq plan`"),
        (("redrive", "nowhere.json"), "Missing option '--reason'"),
        (("discard", "--reason", "x"), "Name some, or give filters"),
        (("discard", "--tenant", "nobody", "--reason", "x"), "no open dead letter fits"),
        (("status", "p-9"), "no redrive of a plan 'p-9'"),
        (("plan", "--out", "no/such/folder.json"), "choose another file with --out"),
    ],
)
def test_what_cannot_be_done_is_one_line_that_says_what_would_do(
    arrange: Arrange, pabal: Callable[..., Result], tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    arrange(three_letters)
    (tmp_path / "other.json").write_text("{}")

    refused = pabal("dlq", *arguments)

    assert refused.exit_code != 0
    assert says in refused.output
    assert "Traceback" not in refused.output


def test_without_a_log_the_commands_say_how_to_name_one(pabal: Callable[..., Result]) -> None:
    refused = pabal("dlq", "list")

    assert refused.exit_code == 1
    assert "which log? None is in" in refused.output
    assert "give --data with the folder of `pabal up`, or --log" in refused.output


def test_the_report_tells_the_rate_and_what_it_leaves_out(
    arrange: Arrange, pabal: Callable[..., Result], tmp_path: Path
) -> None:
    async def prepare(lab: Lab) -> None:
        long_ago = lab.clock.now() - timedelta(days=3)
        store = SqlStore(f"sqlite:{tmp_path / 'store.db'}", clock=SystemClock())
        await store.fold(
            [
                *(an_event(lab.delivery(number), "dead_lettered", at=long_ago) for number in (1, 2, 3)),
                an_event(lab.delivery(1), "sent", attempt=5, at=long_ago + timedelta(hours=2)),
                an_event(lab.delivery(3), "discarded", at=long_ago + timedelta(hours=2)),
                an_event(lab.delivery(4), "dead_lettered", at=lab.clock.now()),
            ]
        )
        await store.close()

    arrange(prepare)

    week = pabal("report", "reprocessing")
    until_now = json.loads(pabal("report", "reprocessing", "--until", "0s", "--json").output)

    assert re.search(r"all +50\.0% +1 +2 +1 +0 +3", week.output)
    assert (until_now["rate"], until_now["immature"], until_now["excluded"]) == (0.5, 1, 1)


def test_the_report_needs_a_store_and_a_window(pabal: Callable[..., Result]) -> None:
    without_store = pabal("report", "reprocessing")
    without_window = pabal("report", "reprocessing", "--since", "1h", "--until", "2h")

    assert "there is no store at" in without_store.output
    assert "does not lie before" in without_window.output


@pytest.mark.parametrize("name", sorted(dlq.commands))
def test_every_command_has_a_help_text_and_a_place_in_the_manual(name: str) -> None:
    command = dlq.commands[name]
    options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]

    assert command.help
    assert f"`pabal dlq {name}" in MANUAL
    assert all(isinstance(parameter, click.Argument) or option for parameter in command.params for option in options)


def test_ctrl_c_ends_a_redrive_cleanly_and_says_that_it_can_go_on(
    arrange: Arrange, pabal: Callable[..., Result], tmp_path: Path
) -> None:
    arrange(three_letters)
    pabal("dlq", "plan", "--out", "plan.json")

    arguments = ("dlq", "redrive", "plan.json", "--reason", "x")
    running = subprocess.Popen([sys.executable, "-m", "pabal", *arguments], stderr=subprocess.PIPE, text=True)
    assert running.stderr is not None
    said = []
    for line in running.stderr:
        said.append(line)
        if "waiting" in line:
            running.send_signal(signal.SIGINT)

    assert running.wait() == 1
    assert any("cancelled: stopped by hand" in line for line in said)
    assert [view["state"] for view in json.loads(pabal("dlq", "status", "--json").output)] == ["cancelled"]
    running.stderr.close()
