"""The simulator's SMTP side, spoken to by aiosmtplib and by hand."""

import asyncio
from collections.abc import AsyncIterator

import aiosmtplib
import pytest

from pabal.simulator import HttpBehaviour, Phase, Schedule, Simulator, SmtpBehaviour
from tests.waiting import eventually

MESSAGE = b"Message-ID: <id-1@pabal.example>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nHello\r\n.dot\r\n"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with await Simulator.start() as simulator:
        yield simulator


async def send(simulator: Simulator, *recipients: str, timeout: float = 5.0) -> int:
    """The code of the last reply."""
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=simulator.smtp_port, timeout=timeout) as client:
        try:
            await client.sendmail("a@pabal.example", recipients or ("ana@example.com",), MESSAGE)
        except aiosmtplib.SMTPRecipientsRefused as refused:
            return refused.recipients[0].code
        except aiosmtplib.SMTPResponseException as refused:
            return refused.code
        return 250


class Telnet:
    """A client without manners."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, *lines: str) -> str:
        """Send the lines at once; the first reply to them."""
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())
        return (await self.reader.readline()).decode().rstrip()


@pytest.fixture
async def telnet(simulator: Simulator) -> AsyncIterator[Telnet]:
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.smtp_port)
    assert (await reader.readline()).startswith(b"220 ")
    yield Telnet(reader, writer)
    writer.close()


async def test_takes_mail_and_counts_it_by_message_id(simulator: Simulator) -> None:
    assert await send(simulator) == 250
    assert await send(simulator, "ana@example.com", "bo@example.com") == 250

    assert simulator.counts().by_key == {"id-1@pabal.example": 2}
    assert simulator.counts().by_answer == {"smtp 250": 2}
    last = simulator.requests()[-1]
    assert last.path == "ana@example.com,bo@example.com"
    assert last.headers["message-id"] == "<id-1@pabal.example>"
    assert last.body == MESSAGE


async def test_several_mails_go_over_one_connection(simulator: Simulator) -> None:
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=simulator.smtp_port) as client:
        for _ in range(3):
            await client.sendmail("a@pabal.example", ["ana@example.com"], MESSAGE)

    assert simulator.received == 3


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "message"])
@pytest.mark.parametrize("code", [451, 554])
async def test_refuses_at_the_stage_and_with_the_code_it_is_told(simulator: Simulator, stage: str, code: int) -> None:
    await simulator.behave(SmtpBehaviour(stage=stage, code=code, text="because"))  # type: ignore[arg-type]

    assert await send(simulator) == code

    assert simulator.received == (1 if stage == "message" else 0)
    assert simulator.counts().by_answer == {f"smtp {code}" if stage == "message" else f"smtp {stage} {code}": 1}


async def test_a_recipient_limits_a_behaviour(simulator: Simulator) -> None:
    await simulator.behave(
        SmtpBehaviour(stage="rcpt", recipient="@gone.example", code=550),
        SmtpBehaviour(stage="message", recipient="bo@example.com", code=452),
    )

    assert await send(simulator, "ana@gone.example") == 550
    assert await send(simulator, "bo@example.com") == 452
    assert await send(simulator, "ana@example.com") == 250


async def test_code_421_closes_the_connection(simulator: Simulator, telnet: Telnet) -> None:
    await simulator.behave(SmtpBehaviour(stage="mail", code=421))

    assert (await telnet.say("MAIL FROM:<a@b.example>")).startswith("421 ")
    assert await telnet.reader.read() == b""


async def test_a_refused_greeting_ends_the_conversation(simulator: Simulator) -> None:
    await simulator.behave(SmtpBehaviour(stage="connect", code=554))

    with pytest.raises(aiosmtplib.SMTPConnectError):
        await send(simulator)


async def test_a_reset_after_data_leaves_the_client_in_the_dark(simulator: Simulator) -> None:
    await simulator.behave(SmtpBehaviour(answer="reset"))

    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await send(simulator)

    assert simulator.counts().by_key == {"id-1@pabal.example": 1}
    assert simulator.counts().by_answer == {"smtp reset": 1}


async def test_a_hanging_server_says_nothing_more(simulator: Simulator) -> None:
    await simulator.behave(SmtpBehaviour(answer="hang"))

    with pytest.raises(aiosmtplib.SMTPReadTimeoutError):
        await send(simulator, timeout=0.1)

    assert simulator.counts().by_answer == {"smtp hang": 1}


async def test_a_latency_without_a_code_only_delays(simulator: Simulator) -> None:
    await simulator.behave(SmtpBehaviour(latency_seconds=0.03))
    loop = asyncio.get_running_loop()
    started = loop.time()

    assert await send(simulator) == 250
    assert loop.time() - started >= 0.03


async def test_half_open_greets_nobody_until_it_ends(simulator: Simulator) -> None:
    await simulator.behave(SmtpBehaviour(answer="half_open"))
    sending = asyncio.ensure_future(send(simulator))
    await asyncio.wait([sending], timeout=0.05)
    assert not sending.done()

    await simulator.behave()

    assert await sending == 250


async def test_refuse_closes_the_listener_and_leaves_http_alone(simulator: Simulator) -> None:
    await simulator.behave(SmtpBehaviour(answer="refuse"))
    with pytest.raises(aiosmtplib.SMTPConnectError):
        await send(simulator)
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.close()

    await simulator.behave(HttpBehaviour(status=500))

    assert await send(simulator) == 250


async def test_messages_move_a_schedule_on() -> None:
    schedule = Schedule(phase=(Phase(), Phase(after_requests=1, smtp=(SmtpBehaviour(code=451),))))
    async with await Simulator.start(schedule=schedule) as simulator:
        assert [await send(simulator) for _ in range(2)] == [250, 451]


async def test_any_credentials_are_taken_unless_told_otherwise(simulator: Simulator, telnet: Telnet) -> None:
    assert await telnet.say("AUTH PLAIN AGFuYQBzZWNyZXQ=") == "235 welcome"
    assert await telnet.say("AUTH LOGIN") == "334"
    assert await telnet.say("YW5h") == "334"
    assert await telnet.say("c2VjcmV0") == "235 welcome"
    assert (await telnet.say("AUTH CRAM-MD5")).startswith("504 ")

    await simulator.behave(SmtpBehaviour(stage="auth", code=535))
    assert (await telnet.say("AUTH PLAIN AGFuYQBzZWNyZXQ=")).startswith("535 ")


async def test_commands_out_of_order_or_unknown_are_refused(telnet: Telnet) -> None:
    assert (await telnet.say("RCPT TO:<a@b.example>")).startswith("503 ")
    assert (await telnet.say("DATA")).startswith("503 ")
    assert (await telnet.say("STARTTLS")).startswith("502 ")
    assert (await telnet.say("NOOP")).startswith("250 ")
    assert (await telnet.say("RSET")).startswith("250 ")
    assert (await telnet.say("QUIT")).startswith("221 ")
    assert await telnet.reader.read() == b""


async def test_mail_without_a_message_id_counts_without_a_key(simulator: Simulator, telnet: Telnet) -> None:
    telnet.writer.write(
        b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: x\r\n\r\nhi\r\n.\r\nQUIT\r\n"
    )

    await eventually(lambda: simulator.received == 1)

    assert simulator.counts().without_key == 1


async def test_a_client_that_goes_away_in_the_middle_is_forgotten(simulator: Simulator, telnet: Telnet) -> None:
    telnet.writer.write(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: x\r\n")
    await telnet.say()
    telnet.writer.close()
    await telnet.writer.wait_closed()

    assert await send(simulator) == 250
    assert simulator.received == 1


async def test_an_endless_line_ends_the_conversation(telnet: Telnet) -> None:
    telnet.writer.write(b"x" * (3 << 20))

    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await telnet.reader.readexactly(1)
