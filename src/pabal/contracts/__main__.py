"""`python -m pabal.contracts`: write the contracts, or freeze them as a release's."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import click

from pabal import __version__
from pabal.contracts.asyncapi import describe_topics
from pabal.contracts.schemas import Json, describe_records

RELEASED: Final = "released"
"""The folder of what was frozen, by version."""


def all_files() -> Mapping[str, str]:
    """Every file of the contracts, by name."""
    documents: dict[str, Json] = {**describe_records(), "asyncapi.json": describe_topics(version=__version__)}
    return {name: json.dumps(document, indent=2, ensure_ascii=False) + "\n" for name, document in documents.items()}


def read_files(folder: Path) -> dict[str, Json]:
    """The contracts in a folder, by name."""
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("contracts"))
@click.option("--freeze", is_flag=True, help="Also freeze them as what this version released.")
def main(folder: Path, *, freeze: bool) -> None:
    """Write JSON Schemas of every record, and the AsyncAPI document, into FOLDER."""
    files = all_files()
    folder.mkdir(parents=True, exist_ok=True)
    for stale in {path.name for path in folder.glob("*.json")} - files.keys():
        (folder / stale).unlink()
    _write(folder, files)
    if freeze:
        frozen = folder / RELEASED / __version__
        if frozen.exists():
            raise click.ClickException(f"{frozen} exists: what was released does not change")
        _write(frozen, files)


def _write(folder: Path, files: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
