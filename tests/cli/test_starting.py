"""What a command says when it cannot start: every reason, a line each, before anything is said to run."""

import asyncio
import contextlib
import resource
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from pabal.cli.options import clear_errors
from pabal.compose.listening import SocketAddress, listen_on, url_of_socket
from pabal.compose.parts import open_parts
from pabal.compose.topics import create_topics
from pabal.config import Settings
from pabal.errors import ConfigError, LedgerUnavailable, PabalError

FREE_PORTS = ("--port", "0", "--inbox-port", "0", "--smtp-port", "0")


def run(*arguments: str, may_write: bool = True) -> subprocess.CompletedProcess[str]:
    """A `pabal` that is expected to end by itself. `may_write=False`: no file can grow, as on a full disk."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    return subprocess.run(
        [sys.executable, "-m", "pabal", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=None if may_write else limit,
    )


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """Its one line of error, which is the last; fails if there is more, or if it said that it runs."""
    assert done.returncode == 1, done
    assert "Pabal is up" not in done.stdout
    assert "Traceback" not in done.stderr
    *before, line = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert all(" INFO " in each for each in before)  # the log's own lines
    return line


def test_errors_of_several_roles_become_a_line_each_and_the_same_words_one() -> None:
    same = "the templates folder nowhere does not exist"
    inner = ExceptionGroup("", [ConfigError(same), LedgerUnavailable("the ledger is away")])

    with pytest.raises(click.ClickException) as raised, clear_errors():
        raise ExceptionGroup("", [ConfigError(same), inner])

    assert raised.value.message == f"{same}\nError: the ledger is away"


@pytest.mark.parametrize("own", [[], [ConfigError("ours")]])
def test_what_nobody_raised_on_purpose_keeps_its_traceback(own: list[PabalError]) -> None:
    with pytest.raises(ExceptionGroup), clear_errors():
        raise ExceptionGroup("", [ZeroDivisionError(), *own])


def test_a_template_folder_that_is_not_there_is_said_before_anything_is_up(tmp_path: Path) -> None:
    config = tmp_path / "pabal.toml"
    config.write_text(f'templates = "{tmp_path}/nowhere"\n')

    done = run("up", "--data", str(tmp_path / "data"), "--config", str(config), *FREE_PORTS)

    assert error_of(done) == f"Error: the templates folder {tmp_path}/nowhere does not exist"
    assert not (tmp_path / "data" / "log.db").exists()


def test_a_broken_template_is_named_by_file_and_line_before_anything_is_up(tmp_path: Path) -> None:
    config = tmp_path / "pabal.toml"
    config.write_text(f'templates = "{tmp_path}"\n[channels.email]\nenabled = false\n')
    config.rename(tmp_path / "settings")
    (tmp_path / "shipped.toml").write_text('title = "Order {{ number"\nbody = "On its way."\n')

    done = run("up", "--data", str(tmp_path / "data"), "--config", str(tmp_path / "settings"), *FREE_PORTS)

    assert "shipped.toml" in error_of(done)
    assert "title" in error_of(done)


def test_every_port_that_is_taken_is_named_with_its_option_in_one_line(tmp_path: Path) -> None:
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        options = ("--port", "--inbox-port", "--smtp-port")
        ports = [str(each.getsockname()[1]) for each in sockets]
        chosen = [word for pair in zip(options, ports, strict=True) for word in pair]

        error = error_of(run("up", "--data", str(tmp_path), *chosen))

    for option, port in zip(options, ports, strict=True):
        assert f"127.0.0.1:{port} (Address already in use; choose another with {option})" in error


def test_of_several_places_none_stays_open_when_one_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        places = [SocketAddress(host="127.0.0.1", port=each, option="-p") for each in (port, taken.getsockname()[1])]

        with pytest.raises(ConfigError), listen_on(places):
            pass

        socket.create_server(("127.0.0.1", port)).close()


def test_an_ipv6_address_is_listened_on_and_written_in_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")

    with listen_on([SocketAddress(host="::1", port=0, option="--port")]) as [listening]:
        assert url_of_socket(listening).startswith("http://[::1]:")


@pytest.mark.parametrize("option", ["--port", "--inbox-port", "--smtp-port"])
def test_a_port_that_there_is_not_is_refused_with_the_range(option: str) -> None:
    done = run("up", option, "99999")

    assert done.returncode == 2
    assert f"Invalid value for '{option}': 99999 is not in the range 0<=x<=65535." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    """A file where a folder is wanted; nobody, root included, makes one below it."""
    path = tmp_path / "file"
    path.touch()
    return path


def test_a_data_folder_that_cannot_be_made_is_one_line(a_file: Path) -> None:
    error = error_of(run("up", "--data", str(a_file / "data"), *FREE_PORTS))

    assert error.startswith(f"Error: cannot use {a_file}/data: Not a directory")


def test_a_full_disk_at_the_start_is_one_line(tmp_path: Path) -> None:
    error = error_of(run("up", "--data", str(tmp_path), *FREE_PORTS, may_write=False))

    assert "File too large" in error
    assert str(tmp_path) in error


@pytest.mark.parametrize("where", ["log.db", "below/log.db"])
def test_a_log_that_cannot_be_opened_is_one_line(a_file: Path, where: str) -> None:
    error = error_of(run("worker", "--log", f"sqlite:{a_file}/{where}"))

    assert f"the log {a_file}/{where} cannot be opened" in error


def test_a_ledger_that_cannot_be_opened_is_one_line(a_file: Path) -> None:
    folder = a_file.parent
    config = folder / "pabal.toml"
    config.write_text(f'ledger = "{a_file}/ledger.db"\n[channels.email]\nenabled = false\n')

    error = error_of(run("up", "--data", str(folder), "--config", str(config), *FREE_PORTS))

    assert f"cannot open the ledger {a_file}/ledger.db: " in error


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = " + b"[" * 100_000, b"templates = 7"])
def test_a_configuration_that_cannot_be_read_is_one_line(tmp_path: Path, content: bytes) -> None:
    config = tmp_path / "pabal.toml"
    config.write_bytes(content)

    assert str(config) in error_of(run("worker", "--config", str(config)))


def test_a_folder_for_a_configuration_is_refused(tmp_path: Path) -> None:
    done = run("up", "--config", str(tmp_path))

    assert done.returncode == 2
    assert f"File '{tmp_path}' is a directory." in done.stderr


CONFIG = """\
[providers.smtp]
host = "127.0.0.1"
sender = "a@example.com"
tls = "none"
"""

READY = {
    "worker": "worker one is ready for email by smtp, webhook by webhook (critical, standard, bulk); "
    "log sqlite:{data}/log.db, ledger {data}/ledger.db",
    "delayline": "delay line one is ready for critical, standard, bulk; log sqlite:{data}/log.db",
    "recorder": "recorder one is ready for email, webhook; log sqlite:{data}/log.db, store sqlite:{data}/store.db",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("role", READY)
async def test_a_role_says_when_it_is_ready_and_for_what(tmp_path: Path, role: str) -> None:
    url = f"sqlite:{tmp_path}/log.db"
    async with open_parts(Settings(), log_url=url, data=tmp_path) as parts:
        await create_topics(parts, partitions=1, replication=None)
    config = tmp_path / "pabal.toml"
    config.write_text(CONFIG)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pabal", role, "--name", "one"),
        *("--log", url, "--data", str(tmp_path), "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None

    line = (await process.stdout.readline()).decode().strip()
    process.terminate()
    await process.communicate()

    assert line == READY[role].format(data=tmp_path)
