"""`pabal init`: what it writes, what it takes over, and what it does not replace."""

import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pabal.cli.main import main
from pabal.cli.starter import key_beside, prepare_development
from pabal.config import load_settings


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("PABAL_DATA", "PABAL_CONFIG", "PABAL_LOG"):
        monkeypatch.delenv(name, raising=False)


def init(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", *arguments])


def test_on_its_own_it_writes_a_configuration_and_its_key() -> None:
    told = init()

    assert told.exit_code == 0, told.output
    config = Path("pabal.toml")
    assert key_beside(config, load_settings(config, environment={})) == Path("pabal.key").read_text().strip()
    assert {stat.S_IMODE(file.stat().st_mode) for file in Path().iterdir()} == {0o600}
    assert "pabal up --config pabal.toml" in told.output
    assert "pabal_" not in told.output  # the key stands in its file


def test_it_takes_over_all_that_pabal_up_made_and_its_owner_changed() -> None:
    Path(".pabal").mkdir()
    made = prepare_development(Path(".pabal"), tell=pytest.fail)
    made.write_text(made.read_text().replace("# port", "port").replace("# [api]", "[api]"))

    told = init("mine.toml")

    assert told.exit_code == 0, told.output
    assert Path("mine.toml").read_text() == made.read_text()
    assert load_settings(Path("mine.toml"), environment={}).api.port == 8080
    assert Path("mine.key").read_text() == Path(".pabal/development.key").read_text()
    assert ".pabal/development.toml: the same key, the same webhook secret" in told.output


@pytest.mark.parametrize("there", ["pabal.toml", "pabal.key"])
def test_it_replaces_nothing_unless_told_to(there: str) -> None:
    Path(there).write_text("precious")

    refused = init()

    assert (refused.exit_code, Path(there).read_text()) == (1, "precious")
    assert f"Error: {there} is there already" in refused.output
    assert [file.name for file in Path().iterdir()] == [there]
    assert init("--force").exit_code == 0
    assert Path(there).read_text() != "precious"


def test_for_production_nothing_secret_is_written_and_what_is_made_is_shown_once() -> None:
    Path(".pabal").mkdir()
    prepare_development(Path(".pabal"), tell=pytest.fail)

    told = init("prod.toml", "--profile", "production")

    assert told.exit_code == 0, told.output
    assert sorted(file.name for file in Path().iterdir()) == [".pabal", "prod.toml"]
    variables = dict(re.findall(r"^  ([A-Z_]+)=(.+)$", told.output, re.MULTILINE))
    settings = load_settings(Path("prod.toml"), environment=variables)
    [key] = re.findall(r"pabal_[\w-]{43}", told.output)
    assert key not in Path("prod.toml").read_text()
    assert settings.tenants["shop"].webhook_secrets == (variables["SHOP_WEBHOOK_SECRET"],)
    assert init("prod.toml", "--profile", "production").exit_code == 1


def test_a_name_that_would_be_the_keys_own_is_refused() -> None:
    told = init("pabal.key")

    assert told.exit_code == 1
    assert "choose a FILE that does not end in .key" in told.output


def test_a_folder_that_is_not_there_is_named() -> None:
    told = init("nowhere/pabal.toml")

    assert told.exit_code == 1
    assert "cannot write nowhere/pabal.toml: No such file or directory" in told.output
