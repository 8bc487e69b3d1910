"""One hand-over to a real server: what it says, and what each way of failing becomes."""

import asyncio
import socket
import struct
from datetime import UTC, datetime

import pytest

from pabal.channels.port import Rendered
from pabal.clock import ManualClock
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected, Unknown
from pabal.providers.smtp.provider import SmtpProvider
from tests.providers.smtp.servers import Recorder, converse, provider, serve, serve_script

KEY = "0b9d5b6e-5d5c-4b6f-9a57-3f3c6f4be5a1"


async def send(smtp: SmtpProvider, *, to: str = "ana@example.org", body: str = "Hello") -> Outcome:
    rendered = Rendered(subject="Order 17 shipped", body=body)
    return await smtp.send(rendered, to=to, tenant="default", idempotency_key=KEY)


async def send_once(port: int, *, to: str = "ana@example.org", **options: object) -> Outcome:
    smtp = provider(port, **options)  # type: ignore[arg-type]
    try:
        return await send(smtp, to=to)
    finally:
        await smtp.close()


async def test_a_message_arrives_with_its_envelope_and_its_head() -> None:
    recorder = Recorder()
    async with serve(recorder) as server:
        smtp = provider(server.port, clock=ManualClock(datetime(2026, 11, 23, 9, 30, tzinfo=UTC)))

        outcome = await send(smtp)
        await smtp.close()

    assert outcome == Accepted(provider_id="4F1C2", response="250 2.0.0 Ok: queued as 4F1C2")
    (envelope,) = recorder.envelopes
    assert (envelope.mail_from, envelope.rcpt_tos) == ("noreply@example.com", ["ana@example.org"])
    (message,) = recorder.messages()
    assert message["From"] == "Shop <noreply@example.com>"
    assert message["To"] == "ana@example.org"
    assert message["Subject"] == "Order 17 shipped"
    assert message["Date"] == "Mon, 23 Nov 2026 09:30:00 +0000"
    assert message["Message-ID"] == f"<{KEY}@example.com>"
    assert message["Auto-Submitted"] == "auto-generated"


@pytest.mark.parametrize(
    ("options", "name"), [({}, "example.com"), ({"local_hostname": "worker-1.internal"}, "worker-1.internal")]
)
async def test_we_greet_with_the_senders_domain_or_the_name_given(options: dict[str, str], name: str) -> None:
    recorder = Recorder()
    async with serve(recorder) as server:
        await send_once(server.port, **options)

    assert recorder.greetings == [name]


async def test_a_large_message_full_of_dots_arrives_as_it_was() -> None:
    recorder = Recorder()
    body = "".join(f"{'.' * (n % 4)}line {n}\n.\n" for n in range(20_000))
    async with serve(recorder) as server:
        smtp = provider(server.port)

        outcome = await send(smtp, body=body)
        await smtp.close()

    assert isinstance(outcome, Accepted)
    (message,) = recorder.messages()
    assert message.get_content().replace("\r\n", "\n") == body


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
async def test_a_temporary_refusal_of_any_command_is_deferred(command: str) -> None:
    async with serve(Recorder(**{command: "451 4.3.0 later"})) as server:
        outcome = await send_once(server.port)

    stage = "the content" if command == "DATA" else command
    assert outcome == Deferred(
        reason=f"127.0.0.1:{server.port} refused {stage}: 451 4.3.0 later", response="451 4.3.0 later"
    )


@pytest.mark.parametrize(("command", "kind"), [("MAIL", Misconfigured), ("RCPT", Rejected), ("DATA", Rejected)])
async def test_a_permanent_refusal_is_final_unless_it_is_about_us(command: str, kind: type[Outcome]) -> None:
    async with serve(Recorder(**{command: "550 5.7.1 no"})) as server:
        outcome = await send_once(server.port)

    assert type(outcome) is kind


@pytest.mark.parametrize(
    ("replies", "kind", "words"),
    [
        ({"connect": "554 5.3.2 no mail here"}, Misconfigured, "refused the connection: 554"),
        ({"connect": "421 4.3.2 too busy"}, Deferred, "refused the connection: 421"),
        ({"connect": "HTTP/1.1 400 Bad Request"}, Misconfigured, "does not speak SMTP"),
        ({"EHLO": "550 no", "HELO": "550 no"}, Misconfigured, "refused EHLO: 550"),
        ({"EHLO": "421 4.3.2 come back later"}, Deferred, "refused EHLO: 421 4.3.2 come back later"),
        ({"RCPT": "999 what"}, Deferred, "RCPT was answered with 999"),
        ({"DATA": "554 5.5.1 no valid recipients"}, Rejected, "refused DATA: 554"),
        ({"MAIL": "nonsense"}, Deferred, "broke off at MAIL"),
        ({"RCPT": "354 what"}, Deferred, "RCPT was answered with 354"),
        ({"DATA": "250 OK"}, Deferred, "DATA was answered with 250"),
        ({"content": "354 what"}, Unknown, "content was answered with 354"),
        ({"content": "nonsense"}, Unknown, "broke off at content"),
    ],
)
async def test_what_is_unusual_about_a_server_is_told(replies: dict[str, str], kind: type[Outcome], words: str) -> None:
    async with serve_script(lambda reader, writer: converse(reader, writer, replies=replies)) as server:
        outcome = await send_once(server.port)

    assert type(outcome) is kind
    assert not isinstance(outcome, Accepted)
    assert words in outcome.reason


@pytest.mark.parametrize(
    "replies",
    [
        {"RCPT": "252 2.1.5 Cannot VRFY user, but will accept"},
        {"RCPT": "251 2.1.5 User not local; will forward"},
        {"RCPT": "299 yes"},
        {"RCPT": "200"},
        {"MAIL": "251 2.1.0 fine"},
        {"DATA": "350 go on"},
        {"content": "252 2.0.0 taken"},
    ],
)
async def test_the_first_digit_of_a_reply_decides(replies: dict[str, str]) -> None:
    async with serve_script(lambda reader, writer: converse(reader, writer, replies=replies)) as server:
        outcome = await send_once(server.port)

    assert isinstance(outcome, Accepted)


async def test_the_first_digit_decides_about_a_reset_and_a_login_too() -> None:
    replies = {"EHLO": "250-mx.test\r\n250 AUTH PLAIN", "AUTH": "250 2.7.0 fine", "RSET": "220 2.0.0 forgotten"}
    async with serve_script(lambda reader, writer: converse(reader, writer, replies=replies)) as server:
        smtp = provider(server.port, username="ana", password="secret")
        replies["RCPT"] = "550 5.1.1 unknown"
        refused = await send(smtp)
        outcomes = [refused, await send(smtp)]
        await smtp.close()

    assert [type(outcome) for outcome in outcomes] == [Rejected, Rejected]
    assert server.connections == 1


async def test_a_server_that_knows_only_helo_is_spoken_to() -> None:
    replies = {"EHLO": "502 not implemented", "HELO": "250 mx.test"}
    async with serve_script(lambda reader, writer: converse(reader, writer, replies=replies)) as server:
        outcome = await send_once(server.port)

    assert isinstance(outcome, Accepted)


async def test_nobody_listening_is_deferred() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]

        outcome = await send_once(port)

    assert isinstance(outcome, Deferred)
    assert outcome.reason.startswith(f"cannot connect to 127.0.0.1:{port}: ")


STAGES = [
    ("connect", Deferred),
    ("EHLO", Deferred),
    ("MAIL", Deferred),
    ("RCPT", Deferred),
    ("DATA", Deferred),
    ("content", Unknown),
]


@pytest.mark.parametrize(("stage", "kind"), STAGES)
async def test_a_server_that_falls_silent_is_deferred_until_the_content_has_begun(
    stage: str, kind: type[Outcome]
) -> None:
    async def fall_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await converse(reader, writer, until=stage)
        await asyncio.Event().wait()

    async with serve_script(fall_silent) as server:
        outcome = await send_once(server.port, timeout_seconds=0.2)

    assert type(outcome) is kind
    assert not isinstance(outcome, Accepted)
    assert "0.2 s" in outcome.reason


@pytest.mark.parametrize(("stage", "kind"), STAGES)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_broken_connection_is_deferred_until_the_content_has_begun(
    stage: str, kind: type[Outcome], reset: bool
) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await converse(reader, writer, until=stage)
        if reset:
            _reset(writer)

    async with serve_script(break_off) as server:
        outcome = await send_once(server.port)

    assert type(outcome) is kind
    assert server.connections == 1, "a new connection that breaks is not tried again here; that is the worker's"


async def test_a_connection_lost_in_the_middle_of_the_content_is_unknown() -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await converse(reader, writer, until="DATA")
        writer.write(b"354 go on\r\n")
        await reader.readexactly(10)
        _reset(writer)

    async with serve_script(break_off) as server:
        outcome = await send_once(server.port)

    assert isinstance(outcome, Unknown)


async def test_a_refusal_that_comes_while_the_content_is_still_being_sent_is_an_answer() -> None:
    async def refuse_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await converse(reader, writer, until="DATA")
        writer.write(b"354 go on\r\n")
        await reader.readexactly(10)
        writer.write(b"552 5.3.4 too big\r\n")
        await reader.readuntil(b"\r\n.\r\n")

    async with serve_script(refuse_early) as server:
        outcome = await send_once(server.port)

    assert isinstance(outcome, Rejected)


@pytest.mark.parametrize("to", ["ana@example.org\r\nRCPT TO:<bob@example.org>", "ana@example.org> X", "", "ana"])
async def test_an_address_that_could_end_a_command_never_reaches_the_server(to: str) -> None:
    recorder = Recorder()
    async with serve(recorder) as server:
        outcome = await send_once(server.port, to=to)

    assert isinstance(outcome, Rejected)
    assert server.connections == 0


async def test_an_internationalised_domain_needs_nothing_from_the_server() -> None:
    recorder = Recorder()
    async with serve(recorder, enable_SMTPUTF8=False) as server:
        outcome = await send_once(server.port, to="ana@bücher.example")

    assert isinstance(outcome, Accepted)
    assert recorder.envelopes[0].rcpt_tos == ["ana@xn--bcher-kva.example"]


async def test_an_internationalised_local_part_goes_to_a_server_that_offers_smtputf8() -> None:
    recorder = Recorder()
    async with serve(recorder, enable_SMTPUTF8=True) as server:
        outcome = await send_once(server.port, to="jörg@bücher.example")

    assert isinstance(outcome, Accepted)
    assert recorder.envelopes[0].rcpt_tos == ["jörg@xn--bcher-kva.example"]
    assert recorder.envelopes[0].smtp_utf8


async def test_without_smtputf8_an_internationalised_local_part_is_rejected_with_the_reason() -> None:
    async with serve(Recorder(), enable_SMTPUTF8=False) as server:
        outcome = await send_once(server.port, to="jörg@example.org")

    assert isinstance(outcome, Rejected)
    assert "SMTPUTF8" in outcome.reason


async def test_without_smtputf8_an_internationalised_sender_is_our_mistake() -> None:
    async with serve(Recorder(), enable_SMTPUTF8=False) as server:
        outcome = await send_once(server.port, sender="jörg@example.com")

    assert isinstance(outcome, Misconfigured)
    assert "SMTPUTF8" in outcome.reason


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with an RST instead of a FIN."""
    peer = writer.get_extra_info("socket")
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
