"""`servers.postgres`: a server of one's own, which comes back with what it was told."""

import asyncio
import select
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from servers.postgres import PostgresServer

from tests.waiting import eventually

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("postgres_server")


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    with PostgresServer.start() as server:
        yield server


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def test_each_test_gets_an_empty_database(postgres_server: PostgresServer, postgres_url: str) -> None:
    rows(postgres_url, "CREATE TABLE mine (number INTEGER)")

    with postgres_server.new_database() as other:
        assert rows(other, "SELECT count(*) FROM pg_tables WHERE tablename = 'mine'") == [(0,)]


def test_what_was_committed_survives_a_restart_and_a_kill(own_server: PostgresServer) -> None:
    with own_server.new_database() as url:
        rows(url, "CREATE TABLE mine (number INTEGER)")
        rows(url, "INSERT INTO mine VALUES (1)")
        own_server.restart()
        rows(url, "INSERT INTO mine VALUES (2)")
        own_server.kill()
        with pytest.raises(psycopg.OperationalError):
            rows(url, "SELECT 1")

        own_server.launch()

        assert rows(url, "SELECT number FROM mine ORDER BY number") == [(1,), (2,)]


def test_a_frozen_server_answers_nothing_until_it_goes_on_and_can_be_stopped(own_server: PostgresServer) -> None:
    connection = psycopg.connect(own_server.url(), autocommit=True)

    own_server.pause()
    connection.pgconn.send_query(b"SELECT 1")
    readable, _, _ = select.select([connection.fileno()], [], [], 0.2)
    own_server.resume()
    answering, _, _ = select.select([connection.fileno()], [], [], 10.0)
    connection.close()
    own_server.pause()
    own_server.stop()

    assert (bool(readable), bool(answering)) == (False, True)


async def test_a_server_ends_with_the_process_that_started_it() -> None:
    script = (
        "from servers.postgres import PostgresServer; import time;"
        "server = PostgresServer.start(); print(server.process_ids()[0], server.url(), flush=True); time.sleep(60)"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    process_id, url = (await process.stdout.readline()).decode().split()

    process.kill()
    await process.communicate()

    await eventually(lambda: not Path(f"/proc/{process_id}").exists(), within_seconds=10)
    with pytest.raises(psycopg.OperationalError):
        rows(url, "SELECT 1")
    folder = Path(url.partition("host=")[2])
    await eventually(lambda: not folder.exists(), within_seconds=10)
