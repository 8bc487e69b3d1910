"""`pabal brake` as a person meets it: what is braked, how it is let go, what is refused, what the log keeps."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pabal.audit import AuditFact, read_audit
from pabal.broker.port import NewRecord
from pabal.cli.brake import describe_brakes
from pabal.cli.main import main
from pabal.compose.parts import open_parts
from pabal.compose.topics import create_topics
from pabal.config import Settings
from pabal.notification import AUDIT_TOPIC
from pabal.ops.brake_release import RELEASED, Release, read_brakes
from pabal.ops.brakes import BrakeState, brake_record
from tests.flow.installation import Installation
from tests.waiting import eventually_told

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)
BRAKED = BrakeState(state="braked", at=NOW, reason="20 of 30 records cannot be read, such as: not JSON")
BULK = "pabal.deliveries.webhook.bulk"

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def log(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path / 'log.db'}"


@pytest.fixture
def pabal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("PABAL_DATA", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(main, arguments)


def write(log: str, *records: NewRecord) -> None:
    async def append() -> None:
        async with open_parts(Settings(), log_url=log, data=Path()) as parts:
            await create_topics(parts, partitions=1, replication=None)
            await parts.broker.producer().append(records)

    asyncio.run(append())


async def run(log: str, *arguments: str) -> tuple[int | None, str]:
    """A process of its own: its exit status, and what it printed."""
    command = [sys.executable, "-m", "pabal", "brake", *arguments, "--log", log]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
    printed, complaints = await process.communicate()
    return process.returncode, (printed + complaints).decode()


async def facts(pabal: Installation) -> Sequence[AuditFact]:
    return [read_audit(record) for record in await pabal.records(AUDIT_TOPIC)]


async def test_a_braked_class_is_listed_and_let_go_while_its_worker_runs_and_the_log_says_who_did_it(log: str) -> None:
    settings: dict[str, Any] = {"guard": {"brake_records": 20}, "worker": {"window": 50}}
    async with Installation.running(log, **settings) as pabal:
        for number in range(200):
            await pabal.append(NewRecord(topic=BULK, key=b"%d" % number, value=b"{}"))
        states = await eventually_told(lambda: read_brakes(pabal.parts.broker.reader()))

        _, listed = await run(log, "list")
        status, said = await run(log, "release", "webhook", "bulk", "--reason", "rolled back", "--by", "ada")
        await eventually_told(lambda: _is_dead(pabal, count=200))
        _, listed_after = await run(log, "list")

        assert "webhook bulk  braked since" in listed
        assert states["webhook bulk"].reason in listed
        assert "pabal brake release webhook bulk --reason WHY" in listed
        assert (status, said) == (0, "released webhook bulk; workers go on within a second or two\n")
        assert "nothing is braked" in listed_after
        assert "ada: rolled back" in listed_after
        [fact] = await facts(pabal)
        assert (fact.action, fact.subject, fact.by, fact.reason) == (
            RELEASED,
            "brake/webhook/bulk",
            "ada",
            "rolled back",
        )
        detail = fact.detail_as(Release)
        assert (detail.channel, detail.class_, detail.braked_because) == (
            "webhook",
            "bulk",
            states["webhook bulk"].reason,
        )
        assert detail.until == fact.at + timedelta(minutes=60)


async def _is_dead(pabal: Installation, *, count: int) -> bool:
    return len(await pabal.records("pabal.dead.webhook")) >= count


def test_who_released_is_the_user_of_the_operating_system_when_nobody_else_is_named(
    log: str, pabal: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGNAME", "grace")
    write(log, brake_record("webhook", "bulk", BRAKED))

    pabal("brake", "release", "webhook", "bulk", "--reason", "known")

    assert "grace: known" in pabal("brake", "list").output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("pager", "bulk", "--reason", "known"), "there is no channel 'pager' here; there are: email, webhook"),
        (("webhook", "slow", "--reason", "known"), "there is no class 'slow'; there are: critical, standard, bulk"),
        (("webhook", "bulk"), "Missing option '--reason'"),
        (("webhook", "bulk", "--reason", "known", "--for", "-1"), "-1.0 is not in the range x>=0"),
        (("webhook", "critical", "--reason", "known"), "webhook critical is not braked: there is nothing to release"),
        (("email", "bulk", "--reason", "known"), "email bulk is not braked: there is nothing to release"),
    ],
)
def test_what_cannot_be_released_is_refused_in_one_clear_line_and_changes_nothing(
    log: str, pabal: Callable[..., Result], arguments: tuple[str, ...], complaint: str
) -> None:
    write(log, brake_record("webhook", "bulk", BRAKED), brake_record("email", "bulk", _released(until=NOW)))

    refused = pabal("brake", "release", *arguments)

    assert refused.exit_code != 0
    assert complaint in refused.output
    assert "Traceback" not in refused.output
    assert "webhook bulk  braked" in pabal("brake", "list").output


def test_a_class_is_released_once(log: str, pabal: Callable[..., Result]) -> None:
    write(log, brake_record("webhook", "bulk", BRAKED))

    first, second = (pabal("brake", "release", "webhook", "bulk", "--reason", "known") for _ in range(2))

    assert (first.exit_code, second.exit_code) == (0, 1)
    assert "not braked" in second.output


@pytest.mark.parametrize("command", [("list",), ("release", "webhook", "bulk", "--reason", "known")])
def test_without_a_log_both_commands_say_what_is_missing(
    pabal: Callable[..., Result], command: tuple[str, ...]
) -> None:
    refused = pabal("brake", *command)

    assert refused.exit_code == 1
    assert "which log?" in refused.output


def test_a_log_in_which_nothing_was_ever_braked_lists_nothing(log: str, pabal: Callable[..., Result]) -> None:
    write(log)

    assert pabal("brake", "list").output == "nothing is braked\n"


def test_a_release_is_listed_as_long_as_it_keeps_its_class_from_braking() -> None:
    states = {
        "webhook bulk": _released(until=NOW + timedelta(minutes=1)),
        "email bulk": _released(until=NOW),
        "email critical": BRAKED,
    }

    lines = describe_brakes(states, now=NOW)

    assert [line.split("  ")[0] for line in lines if not line.startswith(" ")] == ["webhook bulk", "email critical"]
    assert "released since 2026-01-31 12:00:00Z, not to be braked before 12:01:00Z  ada: known" in lines[0]


def _released(*, until: datetime) -> BrakeState:
    return BrakeState(state="released", at=NOW, until=until, reason="ada: known")
