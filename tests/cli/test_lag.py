"""`pabal lag` as a person calls it, on the log of `pabal up`."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pabal.broker.port import TopicPartition
from pabal.cli.lag import sparkline
from pabal.cli.main import main
from tests.offsets.lab import DamagedLog
from tests.offsets.test_roles import GROUP, append, to
from tests.worker.lab import WEBHOOK_TOPIC

CONFIG = "[channels.email]\nenabled = false\n"


def pabal(folder: Path, *arguments: str) -> Result:
    (folder / "pabal.toml").write_text(CONFIG)
    config = ("--config", str(folder / "pabal.toml"))
    return CliRunner().invoke(main, ["lag", *arguments, "--data", str(folder), *config], catch_exceptions=False)


def with_two_waiting(folder: Path) -> None:
    async def run() -> None:
        async with DamagedLog.opened(str(folder / "log.db")) as log:
            await append(log, TopicPartition(WEBHOOK_TOPIC, 0), to(1), to(2))

    asyncio.run(run())


def test_every_group_of_ours_is_listed_with_its_verdict_and_lag(tmp_path: Path) -> None:
    with_two_waiting(tmp_path)

    shown = pabal(tmp_path)

    lines = {line.split()[0]: line.split() for line in shown.output.splitlines() if line}
    assert shown.exit_code == 0
    assert lines[GROUP][1:3] == ["INCOMPLETE", "2"]
    assert lines["pabal.delayline"][1:3] == ["OK", "0"]
    assert "no member owns the partition" in shown.output


def test_one_group_is_shown_with_its_partitions_and_as_json(tmp_path: Path) -> None:
    with_two_waiting(tmp_path)

    shown, told = pabal(tmp_path, "--group", GROUP), json.loads(pabal(tmp_path, "--group", GROUP, "--json").output)

    [group] = told["groups"]
    assert WEBHOOK_TOPIC in shown.output
    assert (group["group"], group["lag"], group["members"], group["drained_in_seconds"]) == (GROUP, 2, 0, None)
    assert [each["lag"] for each in group["partitions"]] == [2, 0]


def test_a_group_that_there_is_not_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with_two_waiting(tmp_path)

    shown = pabal(tmp_path, "--group", "nobody's")

    assert shown.exit_code == 1
    assert "group \"nobody's\" has committed nothing; Pabal's own groups are pabal.worker.webhook" in shown.output


@pytest.mark.parametrize(
    ("values", "bars"), [([], ""), ([0, 0], "▁▁"), ([1, 4, 8], "▁▄█"), ([7], "█"), ([0, 100], "▁█")]
)
def test_a_sparkline_has_the_highest_value_in_full(values: list[int], bars: str) -> None:
    assert sparkline(values) == bars
