"""Every attack in a small size (in full: `make attack`): the target goes on working, and is no larger for it."""

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from attack.catalogue import ATTACKS, Attack
from attack.report import conduct
from attack.size import FULL, QUICK
from attack.target import NothingAttacked, Target

from attack import requests
from tests.flow.processes import free_port

IN_FULL = os.environ.get("PABAL_ATTACK") == "full"
SIZE = FULL if IN_FULL else QUICK

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600 if IN_FULL else 180)]


@pytest_asyncio.fixture
async def target(tmp_path: Path) -> AsyncIterator[Target]:
    async with Target.started(tmp_path / "target") as started:
        yield started


@pytest.mark.parametrize("name", ATTACKS)
async def test_the_target_goes_on_working_and_is_no_larger_for_it(name: str, target: Target) -> None:
    cost = await conduct(name, ATTACKS[name], target, SIZE)
    sys.stdout.write(f"{cost.line()}\n")

    assert target.tracebacks() == []
    assert cost.memory_after_mb <= 2 * cost.memory_before_mb


@pytest.mark.parametrize("attack", [requests.long_polls, requests.long_addresses, requests.greedy_redrives])
async def test_an_attack_that_is_refused_whole_proves_nothing(attack: Attack, tmp_path: Path) -> None:
    nothing_listens = Target(tmp_path)
    nothing_listens.port = free_port()

    with pytest.raises(NothingAttacked):
        await attack(nothing_listens, QUICK)
