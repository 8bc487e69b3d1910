"""The configuration to start from: complete, private, and made whole after a crash without losing anything."""

import hashlib
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pabal.cli.starter import (
    FAST_LADDER_SECONDS,
    development_starter,
    key_beside,
    key_file_of,
    prepare_development,
    production_starter,
    quicken,
    write_private,
)
from pabal.clock import SystemClock
from pabal.compose.providers import make_carriers
from pabal.config import ClassOverrides, Settings, load_settings
from pabal.errors import ConfigError
from pabal.notification import CLASSES
from pabal.policy import DEFAULT_CLASSES

VARIABLES = {**production_starter().variables, "KAFKA_PASSWORD": "x"}


def load(text: str, folder: Path, **environment: str) -> Settings:
    file = folder / "loaded.toml"
    file.write_text(text)
    return load_settings(file, environment=environment)


def mode_of(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_the_development_one_has_a_key_a_secret_a_sender_and_may_call_this_machine(tmp_path: Path) -> None:
    starter = development_starter()

    settings = load(starter.text, tmp_path)

    [entry] = settings.api.keys
    assert entry.hash == hashlib.sha256(starter.key.encode()).hexdigest()
    assert set(entry.scopes) == {"send", "read", "operator"}
    assert len(settings.tenants[entry.tenant].webhook_secrets) == 1
    assert settings.providers["webhook"] == {"allow": ["127.0.0.0/8", "::1/128"]}
    assert settings.providers["smtp"].keys() == {"sender"}


def test_two_of_them_have_nothing_secret_in_common() -> None:
    first, second = development_starter(), development_starter()

    secret = re.compile('whsec_[^"]+')
    assert first.key != second.key
    assert secret.findall(first.text) != secret.findall(second.text)


def test_the_production_one_needs_its_variables_and_nothing_else(tmp_path: Path) -> None:
    starter = production_starter()

    settings = load(starter.text, tmp_path, **starter.variables)

    assert settings.log.url == starter.variables["PABAL_LOG_URL"]
    assert settings.ledger == settings.store.url == starter.variables["PABAL_DATABASE_URL"]
    assert make_carriers(settings, clock=SystemClock()).keys() == {"email", "webhook"}
    assert starter.key not in starter.text
    assert "whsec_" not in starter.text


@pytest.mark.parametrize("name", sorted(production_starter().variables))
def test_the_production_one_says_which_variable_is_missing(tmp_path: Path, name: str) -> None:
    starter = production_starter()
    rest = {key: value for key, value in starter.variables.items() if key != name}

    with pytest.raises(ConfigError, match=f"the environment variable {name} is not set"):
        load(starter.text, tmp_path, **rest)


@pytest.mark.parametrize("text", [development_starter().text, production_starter().text], ids=["dev", "prod"])
def test_what_is_switched_off_is_right_when_it_is_switched_on(tmp_path: Path, text: str) -> None:
    switched_on = re.sub(r'^# (?=\[|"?[a-z._]+"? = )', "", text, flags=re.MULTILINE)

    settings = load(switched_on, tmp_path, **VARIABLES)

    def leaves(table: dict[str, Any]) -> int:
        return sum(leaves(value) if isinstance(value, dict) else 1 for value in table.values())

    assert settings.classes["critical"].ladder_seconds == DEFAULT_CLASSES["critical"].ladder_seconds
    assert make_carriers(settings, clock=SystemClock()).keys() == {"email", "webhook"}
    assert leaves(tomllib.loads(switched_on)) >= leaves(tomllib.loads(text)) + 4


def test_the_first_start_makes_both_files_private_and_says_nothing(tmp_path: Path) -> None:
    told: list[str] = []

    config = prepare_development(tmp_path, tell=told.append)

    assert (mode_of(config), mode_of(key_file_of(config))) == (0o600, 0o600)
    assert key_beside(config, load_settings(config, environment={})) == key_file_of(config).read_text().strip()
    assert told == []
    assert sorted(tmp_path.iterdir()) == sorted([config, key_file_of(config)])


def test_a_later_start_changes_nothing_but_takes_the_files_from_others(tmp_path: Path) -> None:
    config = prepare_development(tmp_path, tell=pytest.fail)
    before = [file.read_bytes() for file in (config, key_file_of(config))]
    config.chmod(0o644)
    key_file_of(config).chmod(0o640)

    prepare_development(tmp_path, tell=pytest.fail)

    assert [file.read_bytes() for file in (config, key_file_of(config))] == before
    assert (mode_of(config), mode_of(key_file_of(config))) == (0o600, 0o600)


@pytest.mark.parametrize("lost", ["empty", "blank", "gone"])
def test_a_lost_key_is_replaced_and_all_else_in_the_configuration_stays(tmp_path: Path, lost: str) -> None:
    config = prepare_development(tmp_path, tell=pytest.fail)
    config.write_text(config.read_text().replace("# templates =", "templates =") + "\n# mine\n")
    before, [old_hash] = config.read_text(), re.findall("[0-9a-f]{64}", config.read_text())
    lose(key_file_of(config), lost)
    told: list[str] = []

    prepare_development(tmp_path, tell=told.append)

    key = key_beside(config, load_settings(config, environment={}))
    assert key is not None
    assert config.read_text() == before.replace(old_hash, hashlib.sha256(key.encode()).hexdigest())
    assert told == [
        f"{key_file_of(config)} was empty or gone: made another key, whose hash took the old one's place in {config}"
    ]
    assert (mode_of(config), mode_of(key_file_of(config))) == (0o600, 0o600)


@pytest.mark.parametrize("lost", ["empty", "blank", "gone"])
def test_a_lost_configuration_is_made_anew_for_the_key_that_is_there(tmp_path: Path, lost: str) -> None:
    config = prepare_development(tmp_path, tell=pytest.fail)
    key = key_file_of(config).read_text().strip()
    lose(config, lost)
    told: list[str] = []

    prepare_development(tmp_path, tell=told.append)

    assert key_beside(config, load_settings(config, environment={})) == key
    [line] = told
    assert str(config) in line
    assert "another webhook secret" in line


def lose(file: Path, how: str) -> None:
    if how == "gone":
        file.unlink()
    else:
        file.write_text("" if how == "empty" else " \n")


def test_with_several_keys_nothing_is_replaced_in_place_of_a_lost_one(tmp_path: Path) -> None:
    config = prepare_development(tmp_path, tell=pytest.fail)
    config.write_text(config.read_text() + f'\n[[api.keys]]\ntenant = "other"\nhash = "{"0" * 64}"\n')
    before = config.read_text()
    key_file_of(config).unlink()

    prepare_development(tmp_path, tell=pytest.fail)

    assert config.read_text() == before
    assert not key_file_of(config).exists()


def test_a_key_is_known_only_if_it_lets_send(tmp_path: Path) -> None:
    config = tmp_path / "own.toml"
    starter = development_starter()
    settings = load(starter.text, tmp_path)
    (tmp_path / "own.key").write_text(f"{starter.key}\n")

    assert key_beside(config, settings) == starter.key
    assert mode_of(tmp_path / "own.key") == 0o600
    assert key_beside(config, load(starter.text.replace('"send", ', ""), tmp_path)) is None
    assert key_beside(config, Settings()) is None
    assert key_beside(tmp_path / "other.toml", settings) is None


def test_what_happens_to_lie_there_under_that_name_is_left_alone(tmp_path: Path) -> None:
    certificate_key = tmp_path / "server.key"
    certificate_key.write_bytes(b"\x30\x82\xff\xfe")
    certificate_key.chmod(0o640)
    (tmp_path / "folder.key").mkdir()
    settings = load(development_starter().text, tmp_path)

    assert key_beside(tmp_path / "server.toml", settings) is None
    assert key_beside(tmp_path / "folder.toml", settings) is None
    assert mode_of(certificate_key) == 0o640


def test_a_private_file_is_private_whatever_lay_there_before_and_whatever_the_umask(tmp_path: Path) -> None:
    file = tmp_path / "x.key"
    file.write_text("old")
    file.chmod(0o644)
    (tmp_path / "x.key.unfinished").write_text("of a run that was cut off")

    before = os.umask(0)
    try:
        write_private(file, "new")
    finally:
        os.umask(before)

    assert (file.read_text(), mode_of(file)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*no/x\.toml: No such file or directory"):
        write_private(tmp_path / "no" / "x.toml", "")


def test_fast_changes_every_ladder_and_nothing_else() -> None:
    own = Settings(classes={"bulk": ClassOverrides(weight=7, ladder_seconds=(600,))}, templates="t")

    quick = quicken(own)

    assert quick.templates == "t"
    assert {quick.class_settings()[name].ladder_seconds for name in CLASSES} == {FAST_LADDER_SECONDS}
    assert quick.class_settings()["bulk"].weight == 7
    for name in CLASSES:
        assert quick.class_settings()[name].time_to_live == DEFAULT_CLASSES[name].time_to_live
