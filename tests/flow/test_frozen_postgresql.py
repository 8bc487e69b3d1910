"""A whole Pabal whose ledger and store are one PostgreSQL, which is frozen under it and goes on."""

import logging
from pathlib import Path

import pytest
from servers.postgres import PostgresServer

from pabal.clock import SystemClock
from pabal.postgres_silence import ImpatientAsyncConnection
from pabal.store import sql
from pabal.store.sql import SqlStore
from tests.flow.installation import Installation
from tests.waiting import eventually


async def migrate(url: str) -> None:
    store = SqlStore(url, clock=SystemClock())
    await store.migrate()
    await store.close()


@pytest.mark.timeout(90)
async def test_everyone_says_that_a_frozen_database_does_not_answer_and_goes_on_when_it_does(
    tmp_path: Path,
    postgres_server: PostgresServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(ImpatientAsyncConnection, "silent_seconds", 2.0)
    monkeypatch.setattr(sql, "ANSWER_WITHIN_SECONDS", 2.0)
    with PostgresServer.start() as server, server.new_database() as url:
        await migrate(url)
        running = Installation.running(f"sqlite:{tmp_path / 'log.db'}", ledger=url, store={"url": url})
        async with running as pabal:
            before = await pabal.ask_webhook()
            await pabal.until_status(before["id"], "sent")
            server.pause()
            try:
                during = [await pabal.ask_webhook() for _ in range(20)]

                refused = await pabal.call("GET", f"/v1/deliveries/{before['id']}", expect=503)
                await eventually(
                    lambda: "the ledger did not take it: PostgreSQL gave no answer" in caplog.text, within_seconds=20
                )
                await eventually(lambda: "s: the store gave no answer for 2 s" in caplog.text, within_seconds=20)
            finally:
                server.resume()

            for delivery in during:
                await pabal.until_status(delivery["id"], "sent", within_seconds=30)
            assert refused["code"] == "store_unavailable"
            assert pabal.simulator.received == 1 + len(during)
