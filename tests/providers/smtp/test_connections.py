"""Connections: kept, limited, replaced when stale, left politely."""

import asyncio

import pytest

from pabal.channels.port import Rendered
from pabal.outcome import Accepted, Deferred, Outcome, Unknown
from pabal.providers.smtp.provider import SmtpProvider
from tests.providers.smtp.servers import Recorder, converse, provider, serve, serve_script
from tests.waiting import eventually


async def send(smtp: SmtpProvider, *, key: str = "key", to: str = "ana@example.org") -> Outcome:
    return await smtp.send(Rendered(subject="s", body="b"), to=to, tenant="default", idempotency_key=key)


async def test_messages_share_a_connection() -> None:
    recorder = Recorder()
    async with serve(recorder) as server:
        smtp = provider(server.port)

        outcomes = [await send(smtp) for _ in range(5)]
        await smtp.close()

    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert len(recorder.envelopes) == 5
    assert server.connections == 1


async def test_no_more_connections_are_opened_than_allowed() -> None:
    recorder = Recorder()
    async with serve(recorder) as server:
        smtp = provider(server.port, max_connections=2)

        outcomes = await asyncio.gather(*(send(smtp) for _ in range(20)))
        await smtp.close()

    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert server.connections == 2


async def test_a_send_that_finds_every_connection_busy_for_too_long_is_deferred() -> None:
    async def fall_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await converse(reader, writer, until="MAIL")
        await asyncio.Event().wait()

    async with serve_script(fall_silent) as server:
        smtp = provider(server.port, max_connections=1, timeout_seconds=0.3)

        first, second = await asyncio.gather(send(smtp), send(smtp))
        await smtp.close()

    assert isinstance(first, Deferred)
    assert "did not answer MAIL" in first.reason
    assert isinstance(second, Deferred)
    assert "were busy" in second.reason


async def test_a_connection_goes_on_after_a_refusal() -> None:
    recorder = Recorder(RCPT=["550 5.1.1 unknown", "", "450 4.2.0 greylisted"])
    async with serve(recorder) as server:
        smtp = provider(server.port)

        outcomes = [await send(smtp) for _ in range(4)]
        await smtp.close()

    assert [type(outcome).__name__ for outcome in outcomes] == ["Rejected", "Accepted", "Deferred", "Accepted"]
    assert server.connections == 1
    assert recorder.resets == 2


async def test_a_server_that_refuses_to_reset_gets_a_new_connection() -> None:
    recorder = Recorder(RCPT=["550 5.1.1 unknown"], RSET=["500 what"])
    async with serve(recorder) as server:
        smtp = provider(server.port)

        outcomes = [await send(smtp) for _ in range(2)]
        await smtp.close()

    assert [type(outcome).__name__ for outcome in outcomes] == ["Rejected", "Accepted"]
    assert server.connections == 2


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced_unseen() -> None:
    recorder = Recorder()
    async with serve(recorder) as server:
        smtp = provider(server.port)
        await send(smtp)
        server.hang_up()

        outcome = await send(smtp)
        await smtp.close()

    assert isinstance(outcome, Accepted)
    assert server.connections == 2
    assert len(recorder.envelopes) == 2


@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize("last_words", ["", "421 4.4.2 idle for too long\r\n"], ids=["silent", "421"])
async def test_a_kept_connection_that_breaks_before_the_content_is_replaced_unseen(stage: str, last_words: str) -> None:
    connections = 0

    async def serve_one_message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await converse(reader, writer, until="content")
            writer.write(b"250 OK\r\n")
            await converse(reader, writer, greet=False, until=stage)
            writer.write(last_words.encode())
        else:
            await converse(reader, writer)

    async with serve_script(serve_one_message) as server:
        smtp = provider(server.port)
        first = await send(smtp)

        second = await send(smtp)
        await smtp.close()

    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert server.connections == 2


async def test_a_kept_connection_that_breaks_in_the_content_is_never_replaced() -> None:
    async def break_at_the_second(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await converse(reader, writer, until="content")
        writer.write(b"250 OK\r\n")
        await converse(reader, writer, greet=False, until="content")

    async with serve_script(break_at_the_second) as server:
        smtp = provider(server.port)
        first = await send(smtp)

        second = await send(smtp)
        await smtp.close()

    assert isinstance(first, Accepted)
    assert isinstance(second, Unknown)
    assert server.connections == 1


async def test_a_421_to_the_content_of_a_kept_connection_is_an_answer_and_not_tried_again() -> None:
    recorder = Recorder(DATA=["", "421 4.3.0 shutting down"])
    async with serve(recorder) as server:
        smtp = provider(server.port)
        await send(smtp)

        outcome = await send(smtp)
        await smtp.close()

    assert isinstance(outcome, Deferred)
    assert server.connections == 1


async def test_an_idle_connection_is_left_with_quit() -> None:
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await converse(reader, writer, until="content")
        writer.write(b"250 OK\r\n")
        heard.append(await reader.readline())
        writer.write(b"221 bye\r\n")

    async with serve_script(listen) as server:
        smtp = provider(server.port, idle_seconds=0.01)

        await send(smtp)

        await eventually(lambda: heard == [b"QUIT\r\n"])
        await smtp.close()


async def test_a_connection_is_replaced_after_so_many_messages() -> None:
    recorder = Recorder()
    async with serve(recorder) as server:
        smtp = provider(server.port, per_connection=2)

        outcomes = [await send(smtp) for _ in range(5)]
        await smtp.close()

    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert server.connections == 3


async def test_cancelling_a_send_drops_its_connection_and_frees_its_place() -> None:
    arrived = asyncio.Event()

    async def keep_silent_at_first(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if arrived.is_set():
            await converse(reader, writer)
        else:
            await converse(reader, writer, until="content")
            arrived.set()
            await reader.read()

    async with serve_script(keep_silent_at_first) as server:
        smtp = provider(server.port, max_connections=1)
        sending = asyncio.create_task(send(smtp))
        await arrived.wait()
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending

        outcome = await send(smtp)
        await smtp.close()

    assert isinstance(outcome, Accepted)
    assert server.connections == 2


async def test_closing_leaves_every_connection_and_may_be_repeated() -> None:
    recorder = Recorder()
    async with serve(recorder) as server:
        smtp = provider(server.port)
        await asyncio.gather(*(send(smtp) for _ in range(3)))

        await smtp.close()
        await smtp.close()

        await eventually(lambda: not server.open)
    assert server.connections == 3


async def test_a_connection_in_use_while_closing_is_left_when_it_comes_back() -> None:
    recorder = Recorder()
    async with serve(recorder) as server:
        smtp = provider(server.port)
        sending = asyncio.create_task(send(smtp))
        await eventually(lambda: server.connections == 1)

        await smtp.close()
        outcome = await sending

        await eventually(lambda: not server.open)
    assert isinstance(outcome, Accepted)


async def test_a_server_that_does_not_answer_quit_does_not_hold_up_closing() -> None:
    async def ignore_quit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await converse(reader, writer, until="QUIT")
        await reader.read()

    async with serve_script(ignore_quit) as server:
        smtp = provider(server.port)
        await send(smtp)

        async with asyncio.timeout(5):
            await smtp.close()
