"""A whole Pabal whose ledger is a PostgreSQL database, which goes away and comes back."""

from pathlib import Path

import pytest
from servers.postgres import PostgresServer

from tests.flow.installation import Installation


@pytest.mark.timeout(60)
async def test_deliveries_wait_for_the_ledger_and_are_sent_once_when_it_is_back(
    tmp_path: Path, postgres_server: PostgresServer
) -> None:
    with PostgresServer.start() as server, server.new_database() as url:
        async with Installation.running(f"sqlite:{tmp_path / 'log.db'}", ledger=url) as pabal:
            before = await pabal.ask_webhook()
            await pabal.until_told(before["id"], "sent")
            server.kill()
            during = await pabal.ask_webhook()

            server.launch()

            await pabal.until_told(during["id"], "sent")
            assert pabal.simulator.received == 2
