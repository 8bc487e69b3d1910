"""The longest that the event loop of `pabal up` stands still under each attack, and its memory afterwards."""

import asyncio

import msgspec
from attack.catalogue import ATTACKS
from attack.report import Cost, conduct
from attack.size import FULL, QUICK
from attack.target import Target as Attacked

from bench.figures import Measured, Sample, Target, Wanted, measured
from bench.lab import Lab
from bench.size import Size

_LONGEST_MS = 50.0
_BODIES = 500
"""Damaged requests of each operation: `make attack` sends twenty times as many."""


def stalls(lab: Lab, size: Size) -> Measured:
    """Every attack on a target of its own.

    On the wall a stall is longer by whatever else runs on the machine, the attacker first of all. So each is also told
    in CPU time of the loop's thread.
    """
    samples = []
    for number in range(size.rounds):
        costs = [asyncio.run(_attack(lab, name, is_quick=size.rounds == 1 and size.burst < 1000)) for name in ATTACKS]
        values = {f"{cost.attack} wall": cost.stall_ms for cost in costs}
        values |= {f"{cost.attack} cpu": cost.stall_cpu_ms for cost in costs}
        values["memory"] = max(cost.memory_after_mb / cost.memory_before_mb for cost in costs)
        samples.append(
            Sample(
                system="pabal",
                round=number,
                values=values,
                accepted=sum(cost.tried for cost in costs),
                missing=0,
                duplicated=0,
            )
        )
    target = Target(at_most=_LONGEST_MS)
    wanted = [
        *(Wanted(key=f"{name} cpu", title=f"{name}: longest stall, CPU", unit="ms", target=target) for name in ATTACKS),
        *(Wanted(key=f"{name} wall", title=f"{name}: longest stall, wall", unit="ms") for name in ATTACKS),
        Wanted(key="memory", title="memory after it to before, the worst", unit="×", target=Target(at_most=2.0)),
    ]
    return measured("stalls", "Embedded: the longest stall of the loop under each attack", samples, wanted)


async def _attack(lab: Lab, name: str, *, is_quick: bool) -> Cost:
    size = QUICK if is_quick else msgspec.structs.replace(FULL, bodies_per_operation=_BODIES)
    async with Attacked.started(lab.new_directory(name)) as target:
        return await conduct(name, ATTACKS[name], target, size)
