"""The short form of `make chaos`: some of its scenarios, in small counts, within CI's time."""

import sys

import pytest
from chaos.account import Log
from chaos.apart import conduct
from chaos.entry import STEPS
from chaos.run import QUICK, Scenario
from chaos.scenarios import SCENARIOS

from chaos import disk, wall_clock
from pabal.testing.kafka import missing
from tests.chaos.lacking import skip_for_lack_of
from tests.conftest import skip_without_kafka

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}

EMBEDDED = (
    "worker-in-a-burst",
    "worker-sending-mail",
    "worker-during-call",
    "worker-after-finish",
    "recorder",
    "zombie",
    "disk-full",
    "wall-clock",
    "undecodable",
    "poison-records",
    "shared-host",
)

KAFKA = ("worker-in-a-burst", "no-brokers", "zombie-kip-848", "wall-clock")


async def prove(scenario: Scenario, *, log: Log) -> None:
    row = await conduct(scenario, log=log, size=QUICK)
    sys.stdout.write(f"{row}\n")

    assert row.problems == ()
    assert row.lost == 0


def require_clock(name: str) -> None:
    if name == "wall-clock" and (reason := wall_clock.missing()):
        skip_for_lack_of("stepping wall clock", reason)


@pytest.mark.parametrize("name", EMBEDDED)
async def test_it_keeps_its_promises_on_the_embedded_log(name: str) -> None:
    if BY_NAME[name].setting.has_small_disk and (reason := disk.missing()):
        skip_for_lack_of("small disk", reason)
    require_clock(name)

    await prove(BY_NAME[name], log="embedded")


@pytest.mark.kafka
@pytest.mark.parametrize("name", KAFKA)
async def test_it_keeps_its_promises_on_kafka(name: str) -> None:
    if reason := missing():
        skip_without_kafka(reason)
    require_clock(name)

    await prove(BY_NAME[name], log="kafka")


def test_every_step_of_the_protocol_has_its_scenario() -> None:
    assert {f"worker-{step}" for step in STEPS} <= BY_NAME.keys()


def test_names_and_titles_are_each_their_own() -> None:
    assert len(BY_NAME) == len({scenario.title for scenario in SCENARIOS}) == len(SCENARIOS)
