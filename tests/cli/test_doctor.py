"""`pabal doctor` on real logs, ledgers, stores and far sides: what it says, and that it changes nothing."""

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from servers.kafka import KafkaCluster

from pabal.broker.kafka.broker import KafkaBroker
from pabal.compose.ledgers import open_ledger
from pabal.compose.parts import open_parts
from pabal.compose.stores import open_store
from pabal.compose.topics import create_topics
from pabal.config import Settings, StoreSettings
from pabal.doctor.finding import Finding
from pabal.simulator import Simulator, SmtpBehaviour
from pabal.store.sql import SqlStore

CONFIG = """\
ledger = "{ledger}"
[store]
url = "{store}"
[channels.webhook]
enabled = false
[providers.smtp]
host = "127.0.0.1"
port = {smtp_port}
tls = "none"
sender = "a@example.com"
"""


async def examine(*arguments: str) -> tuple[int, list[Finding]]:
    """Exit status and findings of a `pabal doctor` in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pabal", "doctor", "--json", *arguments), stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        said, _ = await process.communicate()
    answer = json.loads(said)
    assert process.returncode is not None
    assert answer["ok"] is (process.returncode == 0)
    return process.returncode, msgspec.convert(answer["findings"], list[Finding])


def levels(findings: Sequence[Finding], *checks: str) -> list[tuple[str, str]]:
    return [(each.check, each.level) for each in findings if each.check in checks]


def contents(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file of a folder: its mode, its time, what is in it. A `-shm` holds the marks of readers, nothing more."""
    return {
        str(path): (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in folder.rglob("*")
        if not path.name.endswith("-shm") and not path.is_socket()
    }


@pytest.mark.timeout(90)
async def test_of_an_empty_folder_it_says_where_to_begin_and_makes_nothing(tmp_path: Path) -> None:
    config = tmp_path / "pabal.toml"
    config.write_text("[channels.webhook]\nenabled = false\n")

    status, findings = await examine("--data", str(tmp_path / "data"), "--config", str(config))

    assert status == 1
    assert levels(findings, "log", "ledger", "store") == [("log", "fail"), ("ledger", "warn"), ("store", "warn")]
    assert "`pabal up` makes it" in next(each.text for each in findings if each.check == "log")
    assert contents(tmp_path).keys() == {str(config)}


@pytest.mark.timeout(90)
@pytest.mark.parametrize("is_running", [False, True])
async def test_an_embedded_installation_is_well_and_stays_as_it_is(tmp_path: Path, is_running: bool) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    async with await Simulator.start() as far_side:
        config = tmp_path / "pabal.toml"
        config.write_text(
            CONFIG.format(ledger=data / "ledger.db", store=f"sqlite:{data}/store.db", smtp_port=far_side.smtp_port)
        )
        config.chmod(0o600)
        settings = Settings()
        async with open_parts(settings, log_url=f"sqlite:{data}/log.db", data=data) as parts:
            await create_topics(parts, partitions=2, replication=None)
            ledger = await open_ledger(parts, worker="one")
            store = open_store(settings, data)
            assert isinstance(store, SqlStore)
            await store.migrate()
            if is_running:
                before = contents(data)
                status, findings = await examine("--data", str(data), "--config", str(config))
                after = contents(data)
            await ledger.close()
            await store.close()
        if not is_running:
            before = contents(data)
            status, findings = await examine("--data", str(data), "--config", str(config))
            after = contents(data)

        assert levels(findings, "log", "topics", "ledger", "store", "providers", "clock", "disk") == [
            (check, "ok") for check in ("log", "topics", "ledger", "store", "providers", "clock", "disk")
        ]
        assert status == 0
        assert far_side.received == 0
        assert before == after


@pytest.mark.timeout(90)
async def test_a_mail_server_that_is_away_a_foreign_file_and_a_gone_ledger_fail(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"no database" * 100)
    async with await Simulator.start() as far_side:
        await far_side.behave(SmtpBehaviour(answer="refuse"))
        config = tmp_path / "pabal.toml"
        config.write_text(
            CONFIG.format(
                ledger=tmp_path / "another.db", store=f"sqlite:{tmp_path}/store.db", smtp_port=far_side.smtp_port
            )
        )
        async with open_parts(Settings(), log_url=f"sqlite:{tmp_path}/log.db", data=tmp_path) as parts:
            await create_topics(parts, partitions=2, replication=None)
            await (await open_ledger(parts, worker="one")).close()

        status, findings = await examine("--data", str(tmp_path), "--config", str(config))

    assert status == 1
    failed = {each.check: each.text for each in findings if each.level == "fail"}
    assert failed.keys() == {"ledger", "store", "providers"}
    assert "the log belongs to ledger" in failed["ledger"]
    assert "file is not a database" in failed["store"]
    assert f"cannot connect to 127.0.0.1:{far_side.smtp_port}" in failed["providers"]


@pytest.mark.timeout(90)
async def test_a_configuration_that_cannot_be_read_is_the_finding(tmp_path: Path) -> None:
    config = tmp_path / "pabal.toml"
    config.write_text("[api]\nport = 99999\n")

    status, findings = await examine("--config", str(config), "--data", str(tmp_path))

    assert status == 1
    assert findings[0].check == "configuration"
    assert "$.api.port" in findings[0].text


@pytest.mark.timeout(180)
async def test_on_kafka_and_postgresql_it_finds_what_lacks_makes_nothing_and_is_well_once_all_is_there(
    tmp_path: Path, kafka_bootstrap: str, postgres_url: str
) -> None:
    del kafka_bootstrap  # it says whether there is a Kafka at all; this one is to be empty
    with KafkaCluster.start(tmp_path / "kafka") as cluster:
        url = f"kafka://{cluster.bootstrap}"
        async with await Simulator.start() as far_side:
            config = tmp_path / "pabal.toml"
            config.write_text(CONFIG.format(ledger=postgres_url, store=postgres_url, smtp_port=far_side.smtp_port))
            arguments = ("--log", url, "--config", str(config), "--data", str(tmp_path / "data"))

            status, findings = await examine(*arguments)

            assert status == 1
            assert levels(findings, "log", "topics", "ledger", "store") == [
                *(("log", "ok"), ("topics", "fail"), ("ledger", "warn"), ("store", "fail")),
            ]
            broker = await KafkaBroker.open(cluster.bootstrap)
            assert await broker.admin().topics() == {}
            await broker.close()

            settings = Settings(ledger=postgres_url, store=StoreSettings(url=postgres_url))
            async with open_parts(settings, log_url=url, data=tmp_path / "data") as parts:
                await create_topics(parts, partitions=2, replication=1)
                ledger = await open_ledger(parts, worker="one")
                await ledger.close()
            store = open_store(settings, tmp_path)
            assert isinstance(store, SqlStore)
            await store.migrate()
            await store.close()

            status, findings = await examine(*arguments)

    assert status == 0, findings
    assert next(each.text for each in findings if each.check == "ledger").endswith("and the log belongs to it")
    assert "this machine is" in next(each.text for each in findings if each.check == "clock")
    assert not (tmp_path / "data").exists()
    assert postgres_url not in json.dumps([each.text for each in findings])
