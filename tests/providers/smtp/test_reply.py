import pytest
from hypothesis import given
from hypothesis import strategies as st

from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected
from pabal.providers.smtp.reply import MAX_SNIPPET_OCTETS, Reply, Stage, to_outcome


def judged(stage: Stage, code: int, text: str, *, recipient: str = "ana@example.org") -> Outcome:
    return to_outcome(Reply(stage=stage, code=code, text=text), server="mx.test:25", recipient=recipient)


@pytest.mark.parametrize(
    ("stage", "code", "text", "kind"),
    [
        # taken
        ("content", 250, "2.0.0 Ok: queued as 4F1C2", Accepted),
        ("content", 252, "fine", Accepted),
        # later: anything 4xx, and a full mailbox whatever the code
        ("connect", 421, "4.3.2 Service shutting down", Deferred),
        ("connect", 450, "4.7.1 Client host rejected: cannot find your hostname", Deferred),
        ("STARTTLS", 454, "TLS not available due to temporary reason", Deferred),
        ("AUTH", 454, "4.7.0 Temporary authentication failure", Deferred),
        ("MAIL", 451, "4.3.0 Temporary lookup failure", Deferred),
        ("RCPT", 450, "4.2.0 Greylisted", Deferred),
        ("DATA", 421, "4.4.2 timeout exceeded", Deferred),
        ("content", 421, "4.3.0 out of luck", Deferred),
        ("content", 452, "4.3.1 Insufficient system storage", Deferred),
        ("RCPT", 552, "Requested mail action aborted: exceeded storage allocation", Deferred),
        ("RCPT", 552, "5.2.2 Mailbox full", Deferred),
        ("content", 552, "5.2.2 The email account is over quota", Deferred),
        # ours: before anything was said about a recipient
        ("connect", 554, "5.7.1 No SMTP service here", Misconfigured),
        ("connect", 521, "mx.test does not accept mail", Misconfigured),
        ("EHLO", 550, "5.7.1 get lost", Misconfigured),
        ("STARTTLS", 501, "Syntax error", Misconfigured),
        ("AUTH", 535, "5.7.8 Authentication credentials invalid", Misconfigured),
        ("AUTH", 504, "5.5.4 Unrecognized authentication type", Misconfigured),
        # ours: login or TLS demanded, at any stage
        ("MAIL", 530, "5.7.0 Authentication required", Misconfigured),
        ("RCPT", 530, "5.7.0 Must issue a STARTTLS command first", Misconfigured),
        ("RCPT", 534, "5.7.14 Please log in via your web browser", Misconfigured),
        ("DATA", 538, "5.7.11 Encryption required", Misconfigured),
        ("content", 535, "5.7.8 session expired", Misconfigured),
        # ours: the sender
        ("MAIL", 550, "5.7.1 Sender address rejected", Misconfigured),
        ("MAIL", 553, "5.1.8 Domain of sender does not exist", Misconfigured),
        # perhaps ours, but said after the recipient was: the recipient's, until several domains say so
        ("content", 550, "5.7.13 User account disabled", Rejected),
        ("RCPT", 550, "5.1.8 <noreply@example.com>: Sender address rejected: Domain not found", Deferred),
        ("RCPT", 554, "5.7.1 <ana@example.org>: Relay access denied", Deferred),
        ("RCPT", 550, "relaying denied", Deferred),
        ("RCPT", 550, "5.7.54 SMTP; Unable to relay recipient in non-accepted domain", Deferred),
        ("RCPT", 504, "5.5.2 <x>: Helo command rejected: need fully-qualified hostname", Deferred),
        ("content", 550, "5.7.9 This mail has been blocked because the sender is unauthenticated.", Rejected),
        ("RCPT", 550, "5.7.8 Authentication required", Rejected),
        ("RCPT", 550, "5.7.0 blocked by policy", Rejected),
        ("DATA", 554, "5.7.14 Trust relationship required", Rejected),
        # the message's own
        ("MAIL", 552, "5.3.4 Message size exceeds fixed limit", Rejected),
        ("MAIL", 550, "5.6.7 SMTPUTF8 required", Rejected),
        ("RCPT", 552, "5.3.4 too big for this recipient", Rejected),
        ("content", 552, "5.3.4 Message too big", Rejected),
        ("content", 554, "5.7.1 rejected as spam", Rejected),
        ("content", 552, "5.7.0 content presents a potential security issue", Rejected),
        ("content", 500, "Line too long", Rejected),
        # the recipient's own
        ("RCPT", 550, "5.1.1 User unknown", Rejected),
        ("RCPT", 550, "No such user", Rejected),
        ("RCPT", 501, "5.1.3 Bad recipient address syntax", Rejected),
        ("RCPT", 550, "5.2.1 Mailbox disabled", Rejected),
        ("RCPT", 550, "5.7.1 Recipient does not want your mail", Rejected),
        ("RCPT", 553, "mailbox name not allowed", Rejected),
    ],
)
def test_a_reply_says_whose_fault_it_is(stage: Stage, code: int, text: str, kind: type[Outcome]) -> None:
    outcome = judged(stage, code, text)

    assert type(outcome) is kind, outcome


@pytest.mark.parametrize(
    ("text", "recipient"),
    [
        ("5.7.1 <relay@example.org>: blocked", "relay@example.org"),
        ("5.7.1 ana@relay.example: blocked", "ana@relay.example"),
        ("5.7.1 <ANA@RELAY.EXAMPLE> is blocked by mx.relay.example", "ana@relay.example"),
        ("User relay unknown", "relay@example.org"),
    ],
)
def test_an_address_cannot_stop_the_channel_by_its_name(text: str, recipient: str) -> None:
    assert isinstance(judged("RCPT", 550, text, recipient=recipient), Rejected)


@given(code=st.integers(500, 599), text=st.text(), detail=st.integers(0, 9))
def test_a_refusal_of_the_content_stops_the_channel_only_when_it_is_about_our_login(
    code: int, text: str, detail: int
) -> None:
    outcome = judged("content", code, f"5.{detail}.1 {text}")

    assert isinstance(outcome, Misconfigured) == (code in {530, 534, 535, 538})


def test_the_reason_names_the_server_the_command_and_the_answer() -> None:
    outcome = judged("RCPT", 550, "5.1.1 User unknown\nsee https://mx.test/help")

    assert outcome == Rejected(
        reason="mx.test:25 refused RCPT: 550 5.1.1 User unknown",
        response="550 5.1.1 User unknown\nsee https://mx.test/help",
    )


@given(st.text(st.characters(codec=None, exclude_categories=()), min_size=0).map(lambda text: text * 100))
def test_what_is_kept_of_a_reply_is_valid_and_bounded(text: str) -> None:
    octets = text.encode("utf-8", "replace") + b"\xff\xfe"
    outcome = judged("content", 250, octets.decode("utf-8", "surrogateescape"))

    assert isinstance(outcome, Accepted)
    assert outcome.response is not None
    assert len(outcome.response.encode()) <= MAX_SNIPPET_OCTETS


@pytest.mark.parametrize(
    ("text", "queue_id"),
    [
        ("2.0.0 Ok: queued as 4XyZ12abcD", "4XyZ12abcD"),
        ("OK id=1rABCD-0001ab-2C", "1rABCD-0001ab-2C"),
        ("2.0.0 45BNv1xY012345 Message accepted for delivery", "45BNv1xY012345"),
        ("2.0.0: 9f8e7d6c Message accepted for delivery", "9f8e7d6c"),
        (
            "Ok 0100018c5a1b2c3d-4e5f6a7b-8c9d-0e1f-2a3b-4c5d6e7f8a9b-000000",
            "0100018c5a1b2c3d-4e5f6a7b-8c9d-0e1f-2a3b-4c5d6e7f8a9b-000000",
        ),
        ("2.0.0 OK", None),
        ("", None),
    ],
)
def test_the_servers_own_name_for_a_message_is_kept_where_its_wording_is_known(text: str, queue_id: str | None) -> None:
    outcome = judged("content", 250, text)

    assert outcome == Accepted(provider_id=queue_id, response=f"250 {text}")
