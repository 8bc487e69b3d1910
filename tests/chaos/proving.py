"""What both short forms of `make chaos` share."""

import sys

from chaos.account import Log
from chaos.apart import conduct
from chaos.run import QUICK, Scenario
from chaos.scenarios import SCENARIOS

from chaos import wall_clock
from tests.chaos.lacking import skip_for_lack_of

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


async def prove(scenario: Scenario, *, log: Log) -> None:
    row = await conduct(scenario, log=log, size=QUICK)
    sys.stdout.write(f"{row}\n")

    assert row.problems == ()
    assert row.lost == 0


def require_clock(name: str) -> None:
    if name == "wall-clock" and (reason := wall_clock.missing()):
        skip_for_lack_of("stepping wall clock", reason)
