"""What an installation lacks is said in one line with the command to run, before anything else is tried."""

import asyncio
import json
import re
import sys
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from pabal.cli.main import main
from pabal.compose.api import run_api
from pabal.compose.ledgers import open_ledger
from pabal.compose.listening import listen
from pabal.compose.parts import open_parts, open_tracing
from pabal.compose.stores import open_store
from pabal.config import Settings, StoreSettings
from pabal.errors import ConfigError
from pabal.extras import Extra, require_extra
from pabal.ledger.looking import look_at_ledger
from pabal.store.looking import look_at_store

ROOT = Path(__file__).parents[1]
DATABASE = "postgresql://nobody@127.0.0.1:1/nothing"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `pip install pabal`: None in `sys.modules` is a module that cannot be found."""
    for name in ("aiosmtpd", "psycopg", "opentelemetry"):
        for loaded in [each for each in sys.modules if each.startswith(f"{name}.")]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("extra", get_args(Extra))
def test_an_extra_that_is_installed_is_enough(extra: Extra) -> None:
    require_extra(extra, wanted_by="this")


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("extra", get_args(Extra))
def test_one_that_is_missing_is_a_line_with_every_package_and_the_command(extra: Extra) -> None:
    packages = [re.split(r"[\[>]", each)[0] for each in EXTRAS[extra] if "-api" not in each]

    with pytest.raises(ConfigError) as raised:
        require_extra(extra, wanted_by="this")

    named = " and ".join(packages)
    assert str(raised.value) == f"this needs {named} (not installed); run: pip install 'pabal[{extra}]'"


@pytest.mark.usefixtures("bare")
def test_up_without_the_inbox_and_without_an_smtp_server_says_both(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["up", "--data", str(tmp_path / "data")])

    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == (
        "Error: no SMTP server is set ([providers.smtp] host), and the inbox needs aiosmtpd (not installed); "
        "run: pip install 'pabal[inbox]'"
    )


@pytest.mark.usefixtures("bare")
async def test_a_ledger_in_postgresql(tmp_path: Path) -> None:
    settings = Settings(ledger=DATABASE)

    async with open_parts(settings, log_url=f"sqlite:{tmp_path / 'log.db'}", data=tmp_path) as parts:
        with pytest.raises(ConfigError, match=r"^a ledger in PostgreSQL needs psycopg .*'pabal\[postgres\]'$"):
            await open_ledger(parts, worker="worker-1")


@pytest.mark.usefixtures("bare")
async def test_the_api_says_at_its_start_that_its_first_cancellation_would_fail(tmp_path: Path) -> None:
    settings = Settings(ledger=DATABASE)

    async with open_parts(settings, log_url=f"sqlite:{tmp_path / 'log.db'}", data=tmp_path) as parts:
        refused = pytest.raises(ConfigError, match=r"^a ledger in PostgreSQL needs psycopg")
        with listen("127.0.0.1", 0, option="--port") as listening, refused:
            await run_api(parts, asyncio.Event(), listening=listening)


@pytest.mark.usefixtures("bare")
def test_a_store_in_postgresql_is_refused_before_anything_asks_it(tmp_path: Path) -> None:
    settings = Settings(store=StoreSettings(url=DATABASE))

    with pytest.raises(ConfigError, match=r"^a store in PostgreSQL needs psycopg .*'pabal\[postgres\]'$"):
        open_store(settings, tmp_path)


@pytest.mark.usefixtures("bare")
def test_doctor_says_that_the_inbox_is_missing_where_mail_would_go_to_it(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["doctor", "--json", "--data", str(tmp_path / "data")])

    findings = json.loads(result.output)["findings"]
    assert {
        "check": "providers",
        "level": "fail",
        "text": "no SMTP server is set ([providers.smtp] host), and the inbox needs aiosmtpd (not installed); "
        "run: pip install 'pabal[inbox]'",
    } in findings


@pytest.mark.usefixtures("bare")
async def test_what_doctor_looks_at() -> None:
    for look in (look_at_ledger, look_at_store):
        with pytest.raises(ConfigError, match=r"needs psycopg .*'pabal\[postgres\]'$"):
            await look(DATABASE)


@pytest.mark.usefixtures("bare")
def test_tracing_that_the_environment_asks_for() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^tracing needs opentelemetry-\S+ and opentelemetry-sdk .*'pabal\[tracing\]'$",
    ):
        open_tracing({"OTEL_TRACES_EXPORTER": "console"}, log_url="sqlite:x")


@pytest.mark.usefixtures("bare")
async def test_whatever_names_none_of_them_works_without(tmp_path: Path) -> None:
    assert open_tracing({}, log_url="sqlite:x") is None
    async with open_parts(Settings(), log_url=f"sqlite:{tmp_path / 'log.db'}", data=tmp_path):
        await open_store(Settings(), tmp_path).close()


def test_all_brings_every_extra_and_the_configurations_page_names_each() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `pabal\[(\w+)\]` \|", page, re.MULTILINE)

    assert EXTRAS["all"] == [f"pabal[{','.join(get_args(Extra))}]"]
    assert rows == [*get_args(Extra), "all"]
    assert EXTRAS.keys() == {*get_args(Extra), "all", "build", "dev"}
