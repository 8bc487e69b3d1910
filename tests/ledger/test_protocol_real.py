"""The pure model and the real thing agree: the worker's code over both ledgers, through the same luck and faults."""

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.ledger.protocol_real import RealWorld
from tests.ledger.protocol_stores import PostgresDatabase, RealStore, SqliteFile
from tests.ledger.test_protocol import SendProtocol


class RealSendProtocol(SendProtocol):
    """The same machine in a world with the real thing in it."""

    def __init__(self, make_store: Callable[[], RealStore]) -> None:
        super().__init__(RealWorld(make_store()))

    def teardown(self) -> None:
        assert isinstance(self.world, RealWorld)
        try:
            super().teardown()
        finally:
            self.world.close()


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pabal.runtime._FIRST_PAUSE_SECONDS", 0.0)


def run(make_store: Callable[[], RealStore], *, examples: int) -> None:
    machine = cast("type[RuleBasedStateMachine]", partial(RealSendProtocol, make_store))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where that can be had: what a disk does to the ledger is told elsewhere, and thousands of commits
    are to take seconds."""
    in_memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=in_memory if in_memory.is_dir() else tmp_path) as name:
        yield Path(name)


@pytest.mark.timeout(120)
def test_the_worker_on_sqlite_does_what_the_model_does(folder: Path) -> None:
    run(lambda: SqliteFile(folder), examples=150)


@pytest.mark.timeout(120)
def test_the_worker_on_postgresql_does_what_the_model_does(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        run(lambda: PostgresDatabase(connection, postgres_url), examples=30)
