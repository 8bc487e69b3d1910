from pathlib import Path

import msgspec
import pytest

from pabal.cli.options import settings_here, url_here, url_of
from pabal.config import LogSettings, Settings
from pabal.errors import ConfigError


def test_a_log_that_is_named_goes_before_the_one_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "log.db").touch()
    configured = msgspec.structs.replace(Settings(), log=LogSettings(url="kafka://configured:9092"))

    assert url_here("kafka://given:9092", configured, tmp_path) == "kafka://given:9092"

    assert url_here(None, configured, tmp_path) == "kafka://configured:9092"


def test_without_a_name_it_is_the_log_of_pabal_up_if_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"which log[?] None is in {tmp_path}: give --data with the folder of `pabal up`"
    ):
        url_here(None, Settings(), tmp_path)

    (tmp_path / "log.db").touch()

    assert url_here(None, Settings(), tmp_path) == f"sqlite:{tmp_path / 'log.db'}"


def test_where_a_log_has_to_be_named_it_says_which_file_is_that_of_pabal_up() -> None:
    with pytest.raises(ConfigError, match=r"that of `pabal up --data DIR`: DIR/log\.db"):
        url_of(None, Settings())


def test_without_a_configuration_it_is_the_one_that_pabal_up_made(tmp_path: Path) -> None:
    assert settings_here(None, tmp_path) == Settings()

    (tmp_path / "development.toml").write_text("[api]\nport = 8181\n")
    (tmp_path / "own.toml").write_text("[api]\nport = 8282\n")

    assert settings_here(None, tmp_path).api.port == 8181

    assert settings_here(tmp_path / "own.toml", tmp_path).api.port == 8282
