"""The table of roles: each is a command of its own and a part of `pabal up`, and the docs name it."""

from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

from pabal.cli.main import COMMANDS, main
from pabal.compose.roles import ROLES, Need, Role, role_named
from pabal.groups import ROLE_NAMES

ROOT = Path(__file__).parents[2]
OPTIONS: dict[Need, set[str]] = {"socket": {"host", "port"}, "name": {"name"}, "channels": {"channels"}}


def command_named(name: str) -> click.Command:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_has_a_help_text(name: str) -> None:
    command = command_named(name)

    assert command.name == name
    assert command.help


def test_the_names_are_those_of_the_table() -> None:
    assert [role.name for role in ROLES] == list(ROLE_NAMES)
    assert [role_named(role.name) for role in ROLES] == list(ROLES)


@pytest.mark.parametrize("role", ROLES, ids=[role.name for role in ROLES])
def test_a_role_is_a_command_with_the_options_that_it_needs(role: Role) -> None:
    command = command_named(role.name)
    options = {parameter.name for parameter in command.params}
    wanted = set().union(*(OPTIONS[need] for need in role.needs))
    # The API serves the status on its own port.
    wanted |= set() if "socket" in role.needs else {"status_port"}

    assert options - {"log_url", "config", "data"} == wanted
    assert command.help is not None
    assert command.help.startswith(role.summary)
    assert isinstance(command, click.Command)


def test_what_starts_an_installation_names_every_role(tmp_path: Path) -> None:
    file = tmp_path / "pabal.toml"
    said = CliRunner().invoke(main, ["init", str(file), "--profile", "production"]).output
    up_help = command_named("up").help
    assert up_help is not None

    assert [role.name for role in ROLES if f"  pabal {role.name} --config {file}\n" not in said] == []
    assert f"(pabal {', '.join(role.name for role in ROLES)})" in file.read_text()
    assert f": {', '.join(role.title for role in ROLES)}." in up_help


def test_composes_services_are_every_role() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    commands = [service["command"][0] for service in services.values() if "command" in service]

    assert [role.name for role in ROLES if role.name not in commands] == []


@pytest.mark.parametrize("page", ["README.md", "docs/kafka.md", "docs/docker.md", "ARCHITECTURE.md"])
def test_the_docs_name_every_role(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")

    assert [role.name for role in ROLES if role.name not in text] == []


def test_the_first_help_text_names_every_role() -> None:
    assert main.help is not None
    assert [role.name for role in ROLES if f"`pabal {role.name}`" not in main.help] == []
