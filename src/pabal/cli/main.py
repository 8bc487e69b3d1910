"""The `pabal` command."""

import click

from pabal import __version__
from pabal.cli.brake import brake
from pabal.cli.dlq import dlq
from pabal.cli.doctor import doctor
from pabal.cli.events import events
from pabal.cli.init import init
from pabal.cli.key import key
from pabal.cli.lag import lag
from pabal.cli.ledger import ledger
from pabal.cli.offsets import offsets
from pabal.cli.recorder import recorder, store
from pabal.cli.report import report
from pabal.cli.roles import api, delayline, worker
from pabal.cli.simulator import simulator
from pabal.cli.topics import topics
from pabal.cli.up import up
from pabal.compose.roles import ROLES

_HELP = """Pabal: a notification platform on Kafka whose operating rules are part of the program.

`pabal up` starts everything on one machine, `pabal init` writes a configuration to start from. In production the
roles run apart, on Kafka: `pabal topics create` once, then {roles}, each as often as needed.
"""


def _help() -> str:
    *first, last = (f"`pabal {role.name}`" for role in ROLES)
    return _HELP.format(roles=f"{', '.join(first)} and {last}")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}, help=_help())
@click.version_option(__version__, prog_name="pabal")
def main() -> None:
    """The whole command line."""


for command in (
    up,
    api,
    worker,
    delayline,
    recorder,
    topics,
    lag,
    events,
    brake,
    offsets,
    store,
    dlq,
    report,
    ledger,
    init,
    doctor,
    key,
    simulator,
):
    main.add_command(command)
