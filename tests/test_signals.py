"""Tests start from a clean signal state, however the shell started them."""

import os
import signal
import subprocess
import sys
from pathlib import Path


def test_ctrl_c_ends_what_a_test_starts() -> None:
    child = subprocess.run(
        [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGINT)"],
        check=False,
        capture_output=True,
    )

    assert child.returncode == -signal.SIGINT


def test_ctrl_c_ends_what_a_test_starts_also_when_the_shell_had_it_ignored() -> None:
    own = f"{__file__}::{test_ctrl_c_ends_what_a_test_starts.__name__}"
    pytest_here = f"exec '{sys.executable}' -m pytest -q -p no:cacheprovider '{own}'"

    run = subprocess.run(
        ["/bin/sh", "-c", f"trap '' INT; {pytest_here}"],
        cwd=Path(__file__).parent.parent,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        check=False,
        capture_output=True,
        text=True,
    )

    assert run.returncode == 0, run.stdout
