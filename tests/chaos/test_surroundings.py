"""What a run is given to stand on: a disk that fills up, a wall clock that steps. Both are real."""

import subprocess
import sys
from pathlib import Path

import pytest
from chaos.apart import conduct_apart
from chaos.failed import RunFailed
from chaos.run import QUICK
from chaos.scenarios import SCENARIOS
from chaos.surroundings import hours_off
from chaos.wall_clock import WallClock

from chaos import disk, wall_clock
from tests.chaos.lacking import skip_for_lack_of

CLOCKS = """
import time
time.sleep(0.001)
print(time.time(), time.clock_gettime(time.CLOCK_REALTIME), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME))
"""


def clocks(environment: dict[str, str]) -> list[float]:
    command = ["/usr/bin/env", *(f"{key}={value}" for key, value in environment.items()), sys.executable, "-c", CLOCKS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(each) for each in done.stdout.split()]


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_process_sees_the_wall_clock_step_and_no_other_clock(tmp_path: Path, hours: int) -> None:
    if reason := wall_clock.missing():
        skip_for_lack_of("stepping wall clock", reason)
    clock = WallClock(tmp_path)

    clock.step(hours * 3600)
    wall, same, monotonic, boot = clocks(dict(clock.environment))

    true_wall, true_same, true_monotonic, true_boot = clocks({})
    assert hours_off([wall, same], now=true_wall) == {hours}
    assert hours_off(
        [true_same, monotonic - true_monotonic + true_wall, boot - true_boot + true_wall], now=true_wall
    ) == {0}


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    with pytest.raises(RunFailed, match="apt install gcc"):
        WallClock(tmp_path)


def test_times_are_off_by_whole_hours_whatever_a_run_takes() -> None:
    assert hours_off([10_000.0, 9_940.0, 10_000.0 - 3_650.0, 10_000.0 + 3_590.0], now=10_000.0) == {-1, 0, 1}


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_full_disk_is_survived_on_one_mounted_without_root() -> None:
    if reason := disk.refusal_apart():
        skip_for_lack_of("small disk in namespaces", reason)
    [disk_full] = [each for each in SCENARIOS if each.name == "disk-full"]

    row = await conduct_apart(disk_full, log="embedded", size=QUICK)

    assert row.problems == ()
    assert row.lost == 0
    assert row.accepted


def test_a_disk_mounted_in_namespaces_is_small_and_is_seen_by_nobody_outside(tmp_path: Path) -> None:
    if reason := disk.refusal_apart():
        skip_for_lack_of("small disk in namespaces", reason)
    program = (
        "import sys; from pathlib import Path; from chaos.disk import fill, small_disk\n"
        "folder = Path(sys.argv[1])\n"
        "with small_disk(folder):\n"
        "    fill(folder / 'ballast'); print((folder / 'ballast').stat().st_size)\n"
    )

    done = subprocess.run(
        [*disk.NAMESPACES, sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )

    assert 60 << 20 <= int(done.stdout) <= 64 << 20
    assert list(tmp_path.iterdir()) == []


def test_where_no_disk_can_be_mounted_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    said = disk.missing()

    assert said is not None
    assert "no small disk can be mounted: there is no `" in said
    assert "no `unshare` on this machine (Debian: util-linux)" in said
