"""The short form of `make chaos` on the embedded log: some of its scenarios, in small counts, within CI's time."""

import pytest
from chaos.entry import STEPS
from chaos.scenarios import SCENARIOS

from chaos import disk
from tests.chaos.lacking import skip_for_lack_of
from tests.chaos.proving import BY_NAME, prove, require_clock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

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


@pytest.mark.parametrize("name", [*EMBEDDED, pytest.param("watched", marks=pytest.mark.timeout(300))])
async def test_it_keeps_its_promises_on_the_embedded_log(name: str) -> None:
    if BY_NAME[name].setting.has_small_disk and (reason := disk.missing()):
        skip_for_lack_of("small disk", reason)
    require_clock(name)

    await prove(BY_NAME[name], log="embedded")


def test_every_step_of_the_protocol_has_its_scenario() -> None:
    assert {f"worker-{step}" for step in STEPS} <= BY_NAME.keys()


def test_names_and_titles_are_each_their_own() -> None:
    assert len(BY_NAME) == len({scenario.title for scenario in SCENARIOS}) == len(SCENARIOS)
