"""Which ledger a role opens, and what happens when it is not the log's."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from pabal.cli.compose import Parts, create_topics, open_ledger, open_parts
from pabal.cli.main import main
from pabal.config import Settings
from pabal.errors import ConfigError
from pabal.store.ledger import SqliteLedger
from pabal.store.ledger_postgres import PostgresLedger


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
