"""What a terminal is shown: text from outside, by every command that shows any, steers nothing and forges no line."""

import asyncio
import io
import json
import logging
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from pabal.broker.port import NewRecord
from pabal.cli import terminal
from pabal.cli.main import main
from pabal.cli.options import clear_errors
from pabal.cli.redrive_progress import RedriveProgress
from pabal.cli.terminal import HarmlessFormatter, PlainTable, Terminal, harmless, harmless_json, harmless_lines
from pabal.clock import SystemClock
from pabal.codec import dead_record, event_record
from pabal.compose.parts import open_parts
from pabal.compose.stores import open_store
from pabal.compose.topics import create_topics
from pabal.config import Settings
from pabal.dlq.redrive.claim import TopicClaim
from pabal.errors import ConfigError
from pabal.notification import Delivery
from pabal.ops.brakes import BrakeState, brake_record
from tests.dlq.lab import Lab, an_event
from tests.dlq.letters import ORIGIN, a_delivery
from tests.dlq.test_book import PLAN

EVIL = "[red]a\x1b[31m\x1b]0;t\x07b\x9b2Jc\u202ed\u2066e\u200bf\x7fg\r\nFORGED 200 OK"
"""Colours, a window's title, C1, bidirectional overrides, a width of nothing, a line of its own, and markup."""

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def pabal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PABAL_DATA", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(main, arguments)


def check(result: Result, *, shown: str = "[31m") -> None:
    """All that was printed is harmless; and what came from outside was among it."""
    for line in result.output.split("\n"):
        assert line.isprintable(), line
        assert not line.startswith("FORGED")
    assert shown in result.output


def evil_delivery(number: int = 1) -> Delivery:
    now = datetime.now(UTC)
    times = {"accepted_at": now - timedelta(hours=1), "expires_at": now + timedelta(hours=5)}
    return a_delivery(number, tenant=EVIL, address=EVIL, **times)


def evil_letter(delivery: Delivery, *, error_class: str = EVIL) -> NewRecord:
    record = dead_record(
        ORIGIN,
        channel="webhook",
        delivery=delivery,
        error_class=error_class,
        message=EVIL,
        at=SystemClock().now(),
        group=EVIL,
        provider=EVIL,
    )
    return msgspec.structs.replace(record, headers=(*record.headers, (EVIL, EVIL.encode())))


@pytest.fixture
def bury(tmp_path: Path) -> Callable[..., None]:
    def run(*records: NewRecord) -> None:
        async def append() -> None:
            async with Lab.open(tmp_path) as lab:
                await lab.append(*records)

        asyncio.run(append())

    return run


@pytest.fixture
def letter(bury: Callable[..., None]) -> None:
    delivery = evil_delivery()
    event = msgspec.structs.replace(
        an_event(delivery, "deferred", at=SystemClock().now()), detail=EVIL, response=EVIL, provider=EVIL
    )
    bury(evil_letter(delivery), event_record(event))


@pytest.mark.usefixtures("letter")
@pytest.mark.parametrize(
    "command",
    [
        ("dlq", "list"),
        ("dlq", "list", "--json"),
        ("dlq", "show", "webhook/0/0"),
        ("dlq", "show", "webhook/0/0", "--json"),
        ("dlq", "stats", "--by", "error_class", "--by", "tenant"),
        ("dlq", "stats", "--by", "error_class", "--json"),
        ("dlq", "plan"),
        ("dlq", "plan", "--json"),
        ("events", "--once"),
        ("events", "--once", "--json"),
    ],
    ids=" ".join,
)
def test_what_dead_letters_and_events_hold_is_harmless(pabal: Callable[..., Result], command: tuple[str, ...]) -> None:
    result = pabal(*command)

    assert result.exit_code == 0
    check(result)


@pytest.mark.usefixtures("letter")
def test_json_says_the_same_as_ever(pabal: Callable[..., Result]) -> None:
    detail = json.loads(pabal("dlq", "show", "webhook/0/0", "--json").output)

    assert detail["summary"]["message"] == EVIL
    assert detail["delivery"]["address"] == EVIL


@pytest.mark.usefixtures("letter")
def test_a_colour_of_our_own_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stdout", stream)
    table = PlainTable("a")
    table.add_row(EVIL)

    Terminal().print(table)

    assert "\x1b[2m" in stream.getvalue()
    assert "\x1b[31m" not in stream.getvalue()


def test_the_reasons_of_redrives_and_edits_are_harmless(
    pabal: Callable[..., Result], bury: Callable[..., None]
) -> None:
    bury(evil_letter(evil_delivery(), error_class="exhausted"))

    edited = pabal("dlq", "edit", "webhook/0/0", "--address", "https://example.com/b", "--reason", EVIL, "--by", EVIL)
    discarded = pabal("dlq", "discard", "webhook/0/0", "--reason", EVIL, "--by", EVIL)

    assert (edited.exit_code, discarded.exit_code) == (0, 0)
    check(pabal("dlq", "show", "webhook/0/0"))
    check(pabal("dlq", "list", "--state", "any"))


def test_the_list_of_brakes_is_harmless(tmp_path: Path, pabal: Callable[..., Result]) -> None:
    async def write() -> None:
        async with open_parts(Settings(), log_url=f"sqlite:{tmp_path / 'log.db'}", data=tmp_path) as parts:
            await create_topics(parts, partitions=1, replication=None)
            state = BrakeState(state="braked", at=datetime.now(UTC), reason=EVIL)
            await parts.broker.producer().append([brake_record(EVIL, "bulk", state)])

    asyncio.run(write())

    check(pabal("brake", "list"))


def test_unaccounted_deliveries_are_listed_harmlessly(tmp_path: Path, pabal: Callable[..., Result]) -> None:
    async def fold() -> None:
        store = open_store(Settings(), tmp_path)
        long_ago = datetime.now(UTC) - timedelta(hours=5)
        lost = msgspec.structs.replace(evil_delivery(), accepted_at=long_ago, expires_at=long_ago + timedelta(hours=1))
        await store.fold([lost])
        await store.close()

    asyncio.run(fold())

    check(pabal("store", "unaccounted"))


def test_errors_are_one_harmless_line() -> None:
    @click.command()
    def fail() -> None:
        with clear_errors():
            raise ConfigError(f"it was said: {EVIL}")

    result = CliRunner().invoke(fail)

    check(result)
    assert result.output.count("\n") == 1


def test_log_lines_and_tracebacks_are_harmless() -> None:
    logger, stream = logging.Logger("pabal.x"), io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(HarmlessFormatter())
    logger.addHandler(handler)

    logger.warning("circuit open: %s", EVIL)
    try:
        raise ValueError(EVIL)
    except ValueError:
        logger.exception("a defect: %s", EVIL)

    lines = stream.getvalue().removesuffix("\n").split("\n")
    assert all(line.isprintable() for line in lines)
    assert len([line for line in lines if "WARNING" in line]) == 1
    assert "Traceback (most recent call last):" in lines
    assert r"\x1b[31m" in lines[0]


def test_the_progress_of_a_redrive_is_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    holder = TopicClaim(topic="t", token="t", plan="p", by=EVIL, host=EVIL, since=datetime.now(UTC))

    with RedriveProgress(Terminal(stderr=True), PLAN, stopping=asyncio.Event()) as progress:
        progress.waiting_for_former_run(holder, 3.0)

    said = capsys.readouterr().err
    assert "FORGED" in said
    assert all(line.isprintable() for line in said.split("\n"))


@given(text=st.text())
def test_any_text_is_harmless_on_one_line_and_says_no_less(text: str) -> None:
    shown = harmless(text)

    assert shown.isprintable()
    assert harmless(shown) == shown
    if text.isprintable():
        assert shown == text
    assert harmless_lines(text).count("\n") == text.count("\n")


@given(value=st.recursive(st.text(), st.lists, max_leaves=4))
def test_any_json_is_harmless_and_means_the_same(value: object) -> None:
    try:
        written = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        written = json.dumps(value)  # half of a surrogate pair, which JSON can hold

    shown = harmless_json(written)

    assert shown.isprintable()
    assert json.loads(shown) == json.loads(written)


def test_no_command_prints_past_the_one_place() -> None:
    past = re.compile(r"click\.s?echo\(|(?<![\w.])(?:print|Console|Table)\(|markup=True|logging\.basicConfig")
    commands = [path for path in Path(terminal.__file__).parent.glob("*.py") if path.name != "terminal.py"]

    found = {path.name: past.findall(path.read_text(encoding="utf-8")) for path in commands}

    assert len(commands) > 15
    assert {name: each for name, each in found.items() if each} == {}


def test_on_a_narrow_terminal_the_first_columns_stay_whole_and_the_others_give_way() -> None:
    table = PlainTable("group", "why", firm=1)
    table.add_row("pabal.worker.webhook.critical", "its owner polls, and nothing was done for a minute")
    terminal = Terminal()
    terminal.width = 40

    with terminal.capture() as captured:
        terminal.print(table)

    assert "pabal.worker.webhook.critical" in captured.get()
    assert max(map(len, captured.get().splitlines())) <= 40
