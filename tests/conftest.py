"""Shared fixtures: one real Kafka and one real PostgreSQL for the whole test session."""

import os
import signal
from collections.abc import Iterator

import hypothesis
import pytest
from servers import postgres
from servers.kafka import KafkaCluster, KafkaMissing, missing
from servers.postgres import PostgresServer

# How long one example takes says more about the machine than about the code.
hypothesis.settings.register_profile("pabal", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("pabal")


def pytest_configure() -> None:
    """Start from a clean signal state: a shell starts what runs in the background (`… &`) with SIGINT ignored.

    Every process that a test starts would inherit that, and none of them would end at Ctrl-C.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def pytest_xdist_auto_num_workers() -> int:
    """Twice as many workers as cores (`pytest -n auto`): most tests that take long wait for another process."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a shared server; any of these may be the one that waits for it to be fetched and started."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        needed = [name for name in ("kafka", "postgres") if _FIXTURES[name] in fixtures]
        for name in needed:
            item.add_marker(name)
        if _WHOLE & set(item.path.parts):
            item.add_marker("slow")
        is_served = any(item.get_closest_marker(name) for name in _FIXTURES)
        if is_served and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(120))


_WHOLE = {
    *("flow", "offsets", "attack"),
    *("test_starting.py", "test_up.py", "test_doctor.py", "test_events.py", "test_brake.py", "test_signals.py"),
    *("test_third_party_provider.py", "test_third_party_channel.py", "test_dead_letters.py", "test_monitor.py"),
}
"""Folders and files whose tests start whole processes or a whole installation: too much for `make quick`."""

_FIXTURES = {"kafka": "kafka_bootstrap", "postgres": "postgres_server"}


def skip_without_kafka(reason: str) -> None:
    """Skip where a developer lacks Java or Maven; fail in CI, where nothing may be skipped unseen."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"no Kafka to test on: {reason}")
    pytest.skip(f"no Kafka to test on: {reason}")


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Kafka of one broker, shared by every test: use names of your own in it."""
    if reason := missing():
        skip_without_kafka(reason)
    try:
        cluster = KafkaCluster.start(tmp_path_factory.mktemp("kafka"))
    except KafkaMissing as error:
        skip_without_kafka(str(error))
    with cluster:
        yield cluster.bootstrap


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL shared by every test: who kills or restarts it brings it back. Skipped as Kafka is."""
    if reason := postgres.missing():
        if os.environ.get("CI") == "true":
            pytest.fail(f"no PostgreSQL to test on: {reason}")
        pytest.skip(f"no PostgreSQL to test on: {reason}")
    with PostgresServer.start() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The address of an empty database, for one test."""
    with postgres_server.new_database() as url:
        yield url
