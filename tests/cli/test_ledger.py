"""Which ledger a role opens, and what happens when it is not the log's."""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner

from pabal.cli.main import main
from pabal.clock import SystemClock
from pabal.compose.ledgers import open_ledger
from pabal.compose.parts import Parts, open_parts
from pabal.compose.topics import create_topics
from pabal.config import Settings
from pabal.errors import ConfigError
from pabal.ledger.postgres.postgres_ledger import PostgresLedger
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger


def log_of(folder: Path) -> str:
    return f"sqlite:{folder / 'log.db'}"


async def open_once(folder: Path, *, ledger: str | None = None) -> type:
    """Make the topics, open the ledger of these settings as a worker does, and close it; what kind it was."""
    async with open_parts(Settings(ledger=ledger), log_url=log_of(folder), data=folder) as parts:
        await create_topics(parts, partitions=1, replication=None)
        return await open_and_close(parts)


async def open_and_close(parts: Parts) -> type:
    ledger = await open_ledger(parts, worker="a")
    await ledger.close()
    return type(ledger)


async def test_a_path_is_a_file_and_an_address_is_postgresql(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()

    kinds = [await open_once(tmp_path / "one"), await open_once(tmp_path / "two", ledger=postgres_url)]

    assert kinds == [SqliteLedger, PostgresLedger]


async def test_another_ledger_than_the_logs_is_refused_without_its_password(tmp_path: Path, postgres_url: str) -> None:
    await open_once(tmp_path)
    with_password = postgres_url.replace("pabal@", "pabal:secret@")

    with pytest.raises(ConfigError, match="pabal ledger adopt") as raised:
        await open_once(tmp_path, ledger=with_password)

    assert "secret" not in str(raised.value)
    assert await open_once(tmp_path) is SqliteLedger


def test_a_ledger_that_was_lost_is_followed_by_one_that_is_adopted(tmp_path: Path) -> None:
    asyncio.run(open_once(tmp_path))
    for file in tmp_path.glob("ledger.db*"):
        if file.is_file():
            file.unlink()
    with pytest.raises(ConfigError, match="pabal ledger adopt"):
        asyncio.run(open_once(tmp_path))

    options = ["--log", log_of(tmp_path), "--data", str(tmp_path)]
    unsure = CliRunner().invoke(main, ["ledger", "adopt", *options], input="n\n")
    sure = CliRunner().invoke(main, ["ledger", "adopt", *options], input="y\n")

    assert unsure.exit_code == 1
    assert "the log belongs to ledger" not in unsure.output
    assert sure.exit_code == 0, sure.output
    assert asyncio.run(open_once(tmp_path)) is SqliteLedger


async def remember_a_delivery(folder: Path, *, ledger: str | None) -> None:
    async with open_parts(Settings(ledger=ledger), log_url=log_of(folder), data=folder) as parts:
        await create_topics(parts, partitions=1, replication=None)
        opened = await open_ledger(parts, worker="a")
        await opened.cancel(uuid4(), prune_after=4e9)
        await opened.close()


@pytest.mark.parametrize("where", ["file", "postgresql"])
def test_a_ledger_that_knows_deliveries_of_a_log_that_is_gone_is_refused_until_it_is_adopted(
    tmp_path: Path, postgres_url: str, where: str
) -> None:
    ledger = postgres_url if where == "postgresql" else None
    asyncio.run(remember_a_delivery(tmp_path, ledger=ledger))
    for file in tmp_path.glob("log.db*"):
        if file.is_file():
            file.unlink()

    with pytest.raises(ConfigError, match=r"this log has had no ledger, .* was the log deleted.*pabal ledger adopt"):
        asyncio.run(open_once(tmp_path, ledger=ledger))

    (tmp_path / "development.toml").write_text("" if ledger is None else f'ledger = "{ledger}"\n')
    adopted = CliRunner().invoke(main, ["ledger", "adopt", "--yes", "--data", str(tmp_path)])
    assert adopted.exit_code == 0, adopted.output
    asyncio.run(open_once(tmp_path, ledger=ledger))


def test_a_worker_that_died_before_it_recorded_its_new_ledger_may_start_again(tmp_path: Path) -> None:
    async def make() -> None:
        ledger = await SqliteLedger.open(tmp_path / "ledger.db", clock=SystemClock(), worker="died")
        await ledger.close()

    asyncio.run(make())

    assert asyncio.run(open_once(tmp_path)) is SqliteLedger
