"""The committed contracts are what the code says, and say it in a form that others can read."""

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from pabal import __version__
from pabal.contracts.__main__ import RELEASED, all_files, main, read_files
from pabal.contracts.compatibility import find_breaks

CONTRACTS = Path(__file__).parents[2] / "contracts"
ASYNCAPI = Path(__file__).parent / "asyncapi-3.0.0.json"

RELEASES = sorted(path.name for path in (CONTRACTS / RELEASED).iterdir())


def test_the_committed_files_are_what_the_code_generates() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in CONTRACTS.glob("*.json")}

    assert committed == dict(all_files()), "the records changed: run `make contracts`, and look at what it changes"


@pytest.mark.parametrize("release", RELEASES)
def test_nothing_breaks_with_a_release(release: str) -> None:
    breaks = find_breaks(read_files(CONTRACTS / RELEASED / release), read_files(CONTRACTS))

    assert breaks == [], "\n".join(map(str, breaks))


def test_every_record_has_a_valid_json_schema() -> None:
    schemas = {name: schema for name, schema in read_files(CONTRACTS).items() if name != "asyncapi.json"}

    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert len(schemas) >= 8


def test_the_topics_are_described_in_valid_asyncapi() -> None:
    document = read_files(CONTRACTS)["asyncapi.json"]

    errors = jsonschema.Draft7Validator(json.loads(ASYNCAPI.read_text())).iter_errors(document)

    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = read_files(CONTRACTS)["asyncapi.json"]

    for reference in _references(document):
        target = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def _references(value: object) -> list[str]:
    if isinstance(value, list):
        return [each for item in value for each in _references(item)]
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [each for item in value.values() for each in _references(item)]
    return []


def test_the_command_writes_what_there_is_and_removes_what_there_is_no_more(tmp_path: Path) -> None:
    (tmp_path / "telegram-1.json").write_text("{}")

    done = CliRunner().invoke(main, [str(tmp_path)])

    assert done.exit_code == 0, done.output
    assert read_files(tmp_path) == {name: json.loads(text) for name, text in all_files().items()}
    assert not (tmp_path / RELEASED).exists()


def test_a_release_is_frozen_once(tmp_path: Path) -> None:
    first = CliRunner().invoke(main, [str(tmp_path), "--freeze"])
    frozen = read_files(tmp_path / RELEASED / __version__)
    second = CliRunner().invoke(main, [str(tmp_path), "--freeze"])

    assert first.exit_code == 0, first.output
    assert frozen == read_files(tmp_path)
    assert second.exit_code == 1
    assert "what was released does not change" in second.output
