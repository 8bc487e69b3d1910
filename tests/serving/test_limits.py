"""How many connections a process holds, and that it uses the descriptors it may."""

import resource
import subprocess
import sys

import pytest

from pabal.serving.limits import MOST_CONNECTIONS, limits_for

ASK = """
import resource
from pabal.runtime import run

async def main(stopping):
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])

run(main)
"""


@pytest.mark.parametrize(
    ("descriptors", "connections", "waiting"),
    [(1024, 512, 256), (1 << 20, MOST_CONNECTIONS, 2048), (64, 32, 16), (1, 1, 1)],
)
def test_connections_and_those_that_wait_leave_a_quarter_of_the_descriptors(
    descriptors: int, connections: int, waiting: int
) -> None:
    limits = limits_for(descriptors)

    assert (limits.connections, limits.waiting) == (connections, waiting)


def test_a_role_raises_its_soft_limit_to_the_hard_one() -> None:
    # The shell's limits: a test process must not lower its own for good.
    command = ["/bin/sh", "-c", 'ulimit -Sn 128 && ulimit -Hn 512 && exec "$@"', "sh", sys.executable, "-c", ASK]

    told = subprocess.run(command, capture_output=True, text=True, check=True)

    assert told.stdout.strip() == "512"
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] != 512
