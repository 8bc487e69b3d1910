"""`pabal simulator` as a process."""

import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

COMMAND = [
    sys.executable,
    "-c",
    "from pabal.cli.simulator import simulator; simulator()",
    *("--port", "0", "--smtp-port", "0", "--control-port", "0"),
]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_prints_where_it_listens_and_ends_with_the_totals(ending: signal.Signals) -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = dict(process.stdout.readline().split(maxsplit=1) for _ in range(4))
        assert set(lines) == {"webhooks", "mail", "control", "try"}
        with urlopen(lines["webhooks"].strip(), data=b"{}") as response:
            assert response.status == 200
        with urlopen(lines["control"].strip()) as response:
            assert b'"received":1' in response.read()

        process.send_signal(ending)
        rest = process.stdout.read()

    assert process.returncode == 0
    assert rest == "received 1  distinct 0  repeated 0  http 200: 1\n"


def test_a_wrong_schedule_is_refused_with_the_reason(tmp_path: Path) -> None:
    schedule = tmp_path / "schedule.toml"
    schedule.write_text("[[phase]]\n[[phase.http]]\nstatus = 42\n")

    done = subprocess.run([*COMMAND, "--schedule", str(schedule)], capture_output=True, text=True)

    assert done.returncode == 1
    assert "phase[0].http[0].status" in done.stderr


def test_a_taken_port_is_refused_with_the_reason() -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().rsplit(":", 1)[1].split("/")[0]

        done = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True)
        process.terminate()

    assert done.returncode == 1
    assert done.stderr == (
        f"Error: cannot listen on 127.0.0.1:{port} (Address already in use; choose another with --port)\n"
    )
