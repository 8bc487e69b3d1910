"""The inbox as an SMTP server, met by our own SMTP provider."""

import asyncio
import socket

import aiosmtplib
import pytest
import uvloop

from pabal.clock import ManualClock
from pabal.inbox import Inbox
from pabal.inbox.smtp import MAX_MESSAGE_OCTETS
from pabal.outcome import Accepted
from pabal.providers.smtp.provider import SmtpProvider
from tests.inbox.visitors import Browser, mail, mailing


async def test_what_is_sent_to_it_is_there(mailer: SmtpProvider, browser: Browser) -> None:
    outcome = await mail(mailer, subject="Order 17 shipped", body="On its way.", to="jörg@example.com")

    assert isinstance(outcome, Accepted)
    assert outcome.provider_id == "1"
    assert await browser.json("/messages.json") == {
        "messages": [
            {
                "id": 1,
                "kind": "email",
                "received_at": "2026-01-01T00:00:00Z",
                "title": "Order 17 shipped",
                "snippet": "On its way.",
                "to": ["jörg@example.com"],
                "signature": None,
            }
        ]
    }


async def test_it_takes_many_at_once(mailer: SmtpProvider, browser: Browser) -> None:
    outcomes = await asyncio.gather(*(mail(mailer, subject=f"no. {n}") for n in range(100)))

    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    messages = (await browser.json("/messages.json"))["messages"]
    assert isinstance(messages, list)
    assert {message["title"] for message in messages} == {f"no. {n}" for n in range(100)}


async def test_a_message_that_is_too_large_is_refused(inbox: Inbox, browser: Browser) -> None:
    assert inbox.smtp_address is not None
    host, port = inbox.smtp_address
    async with aiosmtplib.SMTP(hostname=host, port=port, start_tls=False, local_hostname="test") as client:
        with pytest.raises(aiosmtplib.SMTPSenderRefused) as refused:
            await client.sendmail("a@example.com", ["b@example.com"], b"x" * 78 + b"\r\n" * (MAX_MESSAGE_OCTETS // 2))

    assert refused.value.code == 552
    assert await browser.json("/messages.json") == {"messages": []}


async def test_closing_ends_kept_connections_and_may_be_repeated() -> None:
    inbox = Inbox(ManualClock())
    await inbox.start(listening=socket.create_server(("127.0.0.1", 0)))
    async with mailing(inbox) as mailer:
        await mail(mailer)

        async with asyncio.timeout(2):
            await inbox.close()
            await inbox.close()


async def test_closing_what_was_never_started_is_fine() -> None:
    inbox = Inbox(ManualClock())

    await inbox.close()

    assert inbox.smtp_address is None


def test_it_runs_in_uvloop_as_well() -> None:
    async def send_some() -> list[bool]:
        inbox = Inbox(ManualClock())
        await inbox.start(listening=socket.create_server(("127.0.0.1", 0)))
        async with mailing(inbox) as mailer:
            outcomes = await asyncio.gather(*(mail(mailer) for _ in range(30)))
            await inbox.close()
        return [isinstance(outcome, Accepted) for outcome in outcomes]

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        accepted = runner.run(send_some())

    assert accepted == [True] * 30
