"""TLS and authentication against a real server with a certificate of its own."""

import asyncio
import threading

import pytest
import uvloop

from pabal.channels.port import Rendered
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome
from tests.providers.smtp.certificates import Certificate
from tests.providers.smtp.servers import LOGIN, Recorder, converse, provider, serve, serve_script


async def send_once(port: int, **options: object) -> Outcome:
    smtp = provider(port, **({"host": "localhost"} | options))  # type: ignore[arg-type]
    try:
        rendered = Rendered(subject="s", body="b")
        return await smtp.send(rendered, to="ana@example.org", tenant="default", idempotency_key="key")
    finally:
        await smtp.close()


async def test_starttls_with_a_private_ca(certificate: Certificate) -> None:
    recorder = Recorder()
    async with serve(recorder, tls_context=certificate.server_context(), require_starttls=True) as server:
        outcome = await send_once(server.port, tls="starttls", ca_file=certificate.file)

    assert isinstance(outcome, Accepted)
    assert len(recorder.envelopes) == 1


async def test_tls_from_the_first_byte(certificate: Certificate) -> None:
    recorder = Recorder()
    async with serve(recorder, implicit_tls=certificate.server_context()) as server:
        outcome = await send_once(server.port, tls="tls", ca_file=certificate.file)

    assert isinstance(outcome, Accepted)


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_certificate_that_nobody_vouches_for_is_our_problem_and_nothing_is_sent(
    certificate: Certificate, tls: str
) -> None:
    recorder = Recorder()
    context = certificate.server_context()
    settings = {"tls_context": context} if tls == "starttls" else {"implicit_tls": context}
    async with serve(recorder, **settings) as server:  # type: ignore[arg-type]
        outcome = await send_once(server.port, tls=tls)

    assert outcome == Misconfigured(reason=f"no TLS with localhost:{server.port}: self-signed certificate")
    assert recorder.envelopes == []


async def test_a_certificate_for_another_name_is_our_problem(certificate: Certificate) -> None:
    async with serve(Recorder(), tls_context=certificate.server_context()) as server:
        outcome = await send_once(server.port, host="127.0.0.1", tls="starttls", ca_file=certificate.file)

    assert isinstance(outcome, Misconfigured)
    assert "certificate is not valid for '127.0.0.1'" in outcome.reason


async def test_a_server_without_starttls_gets_nothing_in_the_clear() -> None:
    recorder = Recorder()
    async with serve(recorder) as server:
        outcome = await send_once(server.port, tls="starttls", **LOGIN)

    assert isinstance(outcome, Misconfigured)
    assert "STARTTLS" in outcome.reason
    assert (recorder.logins, recorder.envelopes) == ([], [])


async def test_tls_to_a_port_that_speaks_plainly_is_our_problem() -> None:
    async with serve(Recorder()) as server:
        outcome = await send_once(server.port, tls="tls")

    assert isinstance(outcome, Misconfigured)


async def test_a_server_that_hangs_up_during_the_handshake_is_deferred() -> None:
    async with serve_script(lambda reader, writer: reader.read(1)) as server:  # type: ignore[arg-type,return-value]
        outcome = await send_once(server.port, tls="tls")

    assert isinstance(outcome, Deferred)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_we_log_in_with_what_the_server_offers(certificate: Certificate, mechanism: str) -> None:
    recorder = Recorder()
    others = {"PLAIN", "LOGIN"} - {mechanism}
    async with serve(
        recorder, tls_context=certificate.server_context(), auth_required=True, auth_exclude_mechanism=others
    ) as server:
        outcome = await send_once(server.port, tls="starttls", ca_file=certificate.file, **LOGIN)

    assert isinstance(outcome, Accepted)
    assert recorder.logins == [mechanism]


async def test_a_wrong_password_is_our_problem_and_is_tried_once(certificate: Certificate) -> None:
    recorder = Recorder()
    async with serve(recorder, tls_context=certificate.server_context(), auth_required=True) as server:
        outcome = await send_once(
            server.port, tls="starttls", ca_file=certificate.file, username="shop", password="wrong"
        )

    assert outcome == Misconfigured(
        reason=f"localhost:{server.port} refused AUTH: 535 5.7.8 Authentication credentials invalid",
        response="535 5.7.8 Authentication credentials invalid",
    )
    assert recorder.logins == ["PLAIN"], "three refusals for one wrong password are how accounts get locked"


async def test_a_server_that_wants_a_login_we_do_not_have_is_our_problem() -> None:
    async with serve(Recorder(MAIL="530 5.7.0 Authentication required")) as server:
        outcome = await send_once(server.port)

    assert isinstance(outcome, Misconfigured)


async def test_a_server_that_offers_no_login_is_our_problem() -> None:
    async with serve(Recorder()) as server:
        outcome = await send_once(server.port, **LOGIN)

    assert isinstance(outcome, Misconfigured)
    assert "it offers none" in outcome.reason


async def test_a_login_that_fails_for_now_is_deferred() -> None:
    replies = {"EHLO": "250-mx.test\r\n250 AUTH PLAIN", "AUTH": "454 4.7.0 Temporary authentication failure"}
    async with serve_script(lambda reader, writer: converse(reader, writer, replies=replies)) as server:
        outcome = await send_once(server.port, **LOGIN)

    assert isinstance(outcome, Deferred)


def test_it_works_in_uvloop_as_well(certificate: Certificate) -> None:
    recorder = Recorder()

    async def send_over_tls() -> Outcome:
        async with serve(recorder, implicit_tls=certificate.server_context()) as server:
            return await send_once(server.port, tls="tls", ca_file=certificate.file)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(send_over_tls())

    assert isinstance(outcome, Accepted)
    assert len(recorder.envelopes) == 1


def test_starttls_works_in_uvloop_as_well(certificate: Certificate) -> None:
    # aiosmtpd's STARTTLS is bound to asyncio's own transports, so the server has a loop of its own.
    recorder = Recorder()
    started = threading.Event()
    where: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve_until_told() -> None:
        async with serve(recorder, tls_context=certificate.server_context()) as server:
            done = asyncio.Event()
            where.append((server.port, asyncio.get_running_loop(), done))
            started.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve_until_told()))
    thread.start()
    started.wait(5)
    port, loop, done = where[0]
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            outcome = runner.run(send_once(port, tls="starttls", ca_file=certificate.file))
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()

    assert isinstance(outcome, Accepted)


async def check(port: int, **options: object) -> Outcome:
    smtp = provider(port, **({"host": "localhost"} | options))  # type: ignore[arg-type]
    try:
        return await smtp.check()
    finally:
        await smtp.close()


async def test_a_check_secures_and_logs_in_and_sends_nothing(certificate: Certificate) -> None:
    recorder = Recorder()
    async with serve(recorder, tls_context=certificate.server_context(), require_starttls=True) as server:
        found = await check(server.port, tls="starttls", ca_file=certificate.file, **LOGIN)

    assert found == Accepted(response=f"localhost:{server.port} answers, STARTTLS, logged in as {LOGIN['username']}")
    assert len(recorder.logins) == 1
    assert recorder.envelopes == []


async def test_a_check_with_a_wrong_password_says_so_without_it(certificate: Certificate) -> None:
    async with serve(Recorder(), tls_context=certificate.server_context(), require_starttls=True) as server:
        wrong = {**LOGIN, "password": "not-the-password"}
        found = await check(server.port, tls="starttls", ca_file=certificate.file, **wrong)

    assert isinstance(found, Misconfigured)
    assert "not-the-password" not in str(found)
