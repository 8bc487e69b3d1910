"""Today's code reads what former code has stored: records, the embedded log, the ledger and the store."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.written import READ, READERS, from_json, load, plain

FOLDERS = sorted(path.parent for path in Path(__file__).parent.glob("written_before/*/means.json"))
"""One folder for each commit whose files are read; `written_before/README.md` tells how one is made."""

MESSAGES = {
    f"{folder.name}-{number}-{written['message']}": written
    for folder in FOLDERS
    for number, written in enumerate(json.loads((folder / "records.json").read_text(encoding="utf-8")))
}


def test_there_is_something_to_read() -> None:
    assert FOLDERS
    assert {written["message"] for written in MESSAGES.values()} == READERS.keys()


@pytest.mark.parametrize("written", MESSAGES.values(), ids=MESSAGES.keys())
def test_a_record_means_what_it_meant(written: dict[str, Any]) -> None:
    assert plain(READERS[written["message"]](from_json(written))) == written["means"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", READ)
async def test_a_database_says_what_it_said(folder: Path, name: str, tmp_path: Path) -> None:
    load(folder / f"{name}.sql", tmp_path / f"{name}.db")

    found = await READ[name](tmp_path / f"{name}.db")

    assert found == json.loads((folder / "means.json").read_text(encoding="utf-8"))[name]
