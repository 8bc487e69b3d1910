"""`pabal recorder rebuild` and `pabal store …` as a person calls them."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from click.testing import CliRunner, Result

from pabal.cli.main import main
from pabal.clock import SystemClock
from pabal.codec import delivery_record
from pabal.compose.stores import open_store
from pabal.config import Settings
from pabal.notification import Delivery
from pabal.store.port import SetAside
from pabal.store.sql import SqlStore
from tests.recorder.lab import Lab
from tests.store.laws.lab import a_delivery

UNASKED = " as far as the store knows; the log was not asked (give --log)"


def pabal(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, catch_exceptions=False)


def lost_delivery() -> Delivery:
    long_ago = datetime.now(UTC) - timedelta(hours=5)
    return msgspec.structs.replace(a_delivery(), accepted_at=long_ago, expires_at=long_ago + timedelta(hours=1))


def fold(data: Path, delivery: Delivery) -> None:
    async def run() -> None:
        store = open_store(Settings(), data)
        await store.fold([delivery])
        await store.close()

    asyncio.run(run())


def test_a_rebuild_says_what_it_has_read(tmp_path: Path) -> None:
    async def fill() -> None:
        async with Lab.opened(tmp_path) as lab:
            await lab.append(delivery_record(lost_delivery()))

    asyncio.run(fill())

    result = pabal("recorder", "rebuild", "--log", f"sqlite:{tmp_path / 'log.db'}", "--data", str(tmp_path))

    assert result.exit_code == 0
    assert result.output.strip() == "1 records were read into the store"


def test_unaccounted_deliveries_are_listed_and_fail_the_command(tmp_path: Path) -> None:
    delivery = lost_delivery()
    fold(tmp_path, delivery)

    result = pabal("store", "unaccounted", "--data", str(tmp_path))

    assert result.exit_code == 1
    assert str(delivery.id) in result.output
    assert "1 deliveries are unaccounted" in result.output


def test_nothing_unaccounted_is_good_news(tmp_path: Path) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    fold(tmp_path, msgspec.structs.replace(a_delivery(), expires_at=soon))

    result = pabal("store", "unaccounted", "--data", str(tmp_path))

    assert (result.exit_code, result.output.strip()) == (0, f"every delivery is accounted for{UNASKED}")


def test_where_there_is_no_store_nothing_is_said_to_be_accounted_for(tmp_path: Path) -> None:
    by_default = pabal("store", "unaccounted", "--data", str(tmp_path))
    config = tmp_path / "pabal.toml"
    config.write_text(f'[store]\nurl = "sqlite:{tmp_path / "elsewhere.db"}"\n')
    by_name = pabal("store", "unaccounted", "--config", str(config))

    hint = "give --data, or [store] url with --config"
    assert (by_default.exit_code, by_name.exit_code) == (1, 1)
    assert by_default.output == f"Error: there is no store at {tmp_path / 'store.db'}; {hint}\n"
    assert by_name.output == f"Error: there is no store at {tmp_path / 'elsewhere.db'}; {hint}\n"
    assert not list(tmp_path.glob("*.db"))


def test_migrating_says_where_the_tables_were(tmp_path: Path) -> None:
    first = pabal("store", "migrate", "--data", str(tmp_path))
    second = pabal("store", "migrate", "--data", str(tmp_path))

    assert "there were none" in first.output
    assert "they were at 0002" in second.output


def test_a_url_that_is_no_store_is_one_clear_line(tmp_path: Path) -> None:
    config = tmp_path / "pabal.toml"
    config.write_text('[store]\nurl = "mysql://localhost/pabal"\n')

    result = pabal("store", "migrate", "--config", str(config), "--data", str(tmp_path))

    assert result.exit_code == 1
    assert result.output == (
        f"Error: {config}: $.store.url: mysql: is no such place; expected sqlite:PATH or "
        "postgresql://USER:PASSWORD@HOST/NAME\n"
    )


def test_what_is_set_aside_is_listed_with_how_it_begins(tmp_path: Path) -> None:
    async def fill() -> None:
        store = SqlStore(f"sqlite:{tmp_path / 'store.db'}", clock=SystemClock())
        record = SetAside(
            topic="pabal.events", partition=1, offset=7, at=SystemClock().now(), error="no", size=9, start=b"{\x1b[31m"
        )
        await store.set_aside([record])
        await store.close()

    nothing = pabal("store", "migrate", "--data", str(tmp_path)), pabal("store", "set-aside", "--data", str(tmp_path))
    asyncio.run(fill())

    listed = pabal("store", "set-aside", "--data", str(tmp_path), "--bytes")

    assert nothing[1].output == "nothing is set aside\n"
    assert listed.exit_code == 0
    for words in ("pabal.events/1@7", "9 bytes  no", "7b 1b 5b 33 31 6d", "1 records are set aside"):
        assert words in listed.output
    assert "\x1b" not in listed.output
