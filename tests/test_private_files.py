"""What holds addresses and secrets is for its owner alone, also where an older Pabal made it for all."""

import stat
from pathlib import Path

import pytest

from pabal.compose.ledgers import open_ledger
from pabal.compose.parts import open_parts
from pabal.compose.stores import open_store
from pabal.compose.topics import create_topics
from pabal.config import Settings
from pabal.private_files import make_private_folder
from pabal.store.sql import SqlStore


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


async def use(data: Path) -> dict[str, int]:
    """Everything opened once; the modes while it is open."""
    async with open_parts(Settings(), log_url=f"sqlite:{data}/log.db", data=data) as parts:
        await create_topics(parts, partitions=1, replication=None)
        ledger = await open_ledger(parts, worker="one")
        store = open_store(parts.settings, data)
        assert isinstance(store, SqlStore)
        await store.migrate()
        found = modes(data)
        await ledger.close()
        await store.close()
    return found


async def test_a_new_folder_and_its_databases_are_for_their_owner_alone(tmp_path: Path) -> None:
    found = await use(tmp_path / "data")

    assert {"log.db", "log.db-wal", "ledger.db", "ledger.db-wal", "ledger.db-shm", "store.db"} <= found.keys()
    assert {name: mode for name, mode in found.items() if mode & 0o077} == {}


async def test_what_an_older_one_made_for_all_is_closed_at_the_start(tmp_path: Path) -> None:
    data = tmp_path / "data"
    await use(data)
    for path in (data, *data.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    (data / "ledger.db-wal").touch(mode=0o644)
    (data / "ledger.db-wal").chmod(0o644)

    found = await use(data)

    assert {name for name, mode in found.items() if mode & 0o077} == {"log.db-wake", "ledger.db.owners"}  # no secrets


@pytest.mark.parametrize("others", [["notes.txt"], ["log.db", "notes.txt"], []])
def test_a_folder_that_others_may_share_stays_as_it_is(tmp_path: Path, others: list[str]) -> None:
    tmp_path.chmod(0o755)
    for name in others:
        (tmp_path / name).touch()

    make_private_folder(tmp_path)

    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_folder_that_is_made_is_for_its_owner_alone_from_the_first_moment(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "a" / "data")

    assert stat.S_IMODE((tmp_path / "a" / "data").stat().st_mode) == 0o700
