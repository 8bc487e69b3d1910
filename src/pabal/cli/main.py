"""The `pabal` command."""

from collections.abc import Mapping
from importlib import import_module
from typing import Final

import click

from pabal import __version__
from pabal.groups import ROLE_NAMES

_ROLES: Final = "pabal.cli.roles"

COMMANDS: Final[Mapping[str, str]] = {
    "up": "pabal.cli.up",
    **dict.fromkeys(ROLE_NAMES, _ROLES),
    "recorder": "pabal.cli.recorder",
    "topics": "pabal.cli.topics",
    "status": "pabal.cli.status",
    "lag": "pabal.cli.lag",
    "events": "pabal.cli.events",
    "brake": "pabal.cli.brake",
    "offsets": "pabal.cli.offsets",
    "store": "pabal.cli.recorder",
    "dlq": "pabal.cli.dlq",
    "report": "pabal.cli.report",
    "ledger": "pabal.cli.ledger",
    "init": "pabal.cli.init",
    "doctor": "pabal.cli.doctor",
    "key": "pabal.cli.key",
    "simulator": "pabal.cli.simulator",
}
"""The module of each command, which is loaded when the command is asked for: `pabal lag` needs no HTTP server, and an
operator waits for it. In the order in which the first help text lists them."""

_HELP = """Pabal: a notification platform on Kafka whose operating rules are part of the program.

`pabal up` starts everything on one machine, `pabal init` writes a configuration to start from. In production the
roles run apart, on Kafka: `pabal topics create` once, then {roles}, each as often as needed.
"""


def _help() -> str:
    *first, last = (f"`pabal {name}`" for name in ROLE_NAMES)
    return _HELP.format(roles=f"{', '.join(first)} and {last}")


class Commands(click.Group):
    """A group whose commands are loaded one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command; None when there is none of that name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = import_module(COMMANDS[cmd_name])
        # The commands of roles are made from their table; a role that has commands below it has a module of its own.
        command: click.Command = module.command_of(cmd_name) if module.__name__ == _ROLES else getattr(module, cmd_name)
        return command


@click.group(
    cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, help=_help()
)
@click.version_option(__version__, prog_name="pabal")
def main() -> None:
    """The whole command line."""
