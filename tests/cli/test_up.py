import asyncio
import socket
from pathlib import Path

from pabal.cli.up import Greeting, _inbox_if_needed, _member_name
from pabal.config import Settings


async def test_any_free_port_will_do_for_the_inbox_and_mail_goes_there() -> None:
    settings = Settings()
    greeting = Greeting(log_url="", api_url="", inbox_url="http://127.0.0.1", key=None)

    async with _inbox_if_needed(settings, greeting, asyncio.Event(), page_port=0, smtp_port=0) as complete:
        smtp = complete.providers["smtp"]
        _, writer = await asyncio.open_connection(smtp["host"], smtp["port"])
        writer.close()
        await writer.wait_closed()

    assert smtp["port"] > 0


def test_up_is_named_by_its_host_on_a_log_that_hosts_share(tmp_path: Path) -> None:
    assert _member_name("kafka://kafka-1:9092") == f"up-{socket.gethostname()}"

    assert _member_name(f"sqlite:{tmp_path / 'log.db'}") == "up"
