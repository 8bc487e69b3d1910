"""When what one recipient's domain refused is ours after all: three domains said it, and nobody accepted between."""

from typing import Any

import pytest

from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected
from pabal.providers.smtp.reply import Reply, Stage
from pabal.providers.smtp.suspicion import Suspicion

Said = tuple[Stage, int, str]

BLOCKED: Said = ("content", 550, "5.7.9 This mail has been blocked because the sender is unauthenticated.")
RELAY: Said = ("RCPT", 554, "5.7.1 Relay access denied")
GREY: Said = ("RCPT", 450, "4.2.0 Greylisted")
BUSY: Said = ("RCPT", 451, "4.3.0 Temporary lookup failure")
NO_USER: Said = ("RCPT", 550, "5.1.1 User unknown")
LOGIN: Said = ("RCPT", 530, "5.7.0 Authentication required")
TAKEN: Said = ("content", 250, "2.0.0 queued")

A, B, C, D = "ana@a.example", "bo@b.example", "cy@c.example", "di@d.example"
ADDRESS, SERVER = Deferred(reason="", address_only=True), Deferred(reason="")
REFUSED, OURS, OK = Rejected(reason=""), Misconfigured(reason=""), Accepted()


def judge(suspicion: Suspicion, said: Said, recipient: str) -> Outcome:
    stage, code, text = said
    return suspicion.judge(Reply(stage=stage, code=code, text=text), server="mx.test:25", recipient=recipient)


def without_words(outcome: Outcome) -> Outcome:
    match outcome:
        case Deferred(address_only=address_only):
            return Deferred(reason="", address_only=address_only)
        case Rejected():
            return REFUSED
        case Misconfigured():
            return OURS
        case _:
            return OK


@pytest.mark.parametrize(
    "told",
    [
        # one domain's rules are its own, however often it says so
        [(BLOCKED, A, REFUSED)] * 20,
        [(RELAY, A, ADDRESS)] * 20,
        [(GREY, A, ADDRESS)] * 20,
        # two may belong to one company
        [(BLOCKED, A, REFUSED), (BLOCKED, B, REFUSED), (BLOCKED, A, REFUSED), (BLOCKED, B, REFUSED)],
        # three, and all who follow
        [(BLOCKED, A, REFUSED), (BLOCKED, B, REFUSED), (BLOCKED, C, OURS), (BLOCKED, A, OURS), (BLOCKED, D, OURS)],
        [(RELAY, A, ADDRESS), (RELAY, B, ADDRESS), (RELAY, C, OURS)],
        [(GREY, A, ADDRESS), (GREY, B, ADDRESS), (GREY, C, SERVER)],
        # a domain is one however it is spelt
        [(BLOCKED, A, REFUSED), (BLOCKED, B, REFUSED), (BLOCKED, "ana@A.Example", REFUSED)],
        # an acceptance between, whoever accepted
        [(BLOCKED, A, REFUSED), (BLOCKED, B, REFUSED), (TAKEN, D, OK), (BLOCKED, C, REFUSED)],
        [(GREY, A, ADDRESS), (GREY, B, ADDRESS), (TAKEN, A, OK), (GREY, C, ADDRESS)],
        # what nobody doubts says nothing of us
        [(BLOCKED, A, REFUSED), (NO_USER, B, REFUSED), (NO_USER, C, REFUSED), (BLOCKED, D, REFUSED)],
        # what is late and what is refused are two suspicions
        [(BLOCKED, A, REFUSED), (GREY, B, ADDRESS), (BLOCKED, C, REFUSED), (GREY, D, ADDRESS)],
        # about us, or the server, at once
        [(LOGIN, A, OURS)],
        [(BUSY, A, SERVER)],
    ],
    ids=lambda told: " ".join(f"{said[0]}-{said[1]}-{to[-9:]}" for said, to, _ in told[:5]),
)
def test_it_is_ours_when_three_domains_say_so_and_nobody_accepts_between(told: list[Any]) -> None:
    suspicion = Suspicion()

    outcomes = [without_words(judge(suspicion, said, recipient)) for said, recipient, _ in told]

    assert outcomes == [expected for *_, expected in told]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (("RCPT", 450, "mailbox busy"), ADDRESS),
        (("RCPT", 450, "4.7.1 Try again later"), ADDRESS),
        (("content", 452, "4.2.2 The mailbox is full"), ADDRESS),
        (("RCPT", 552, "5.2.2 Mailbox full"), ADDRESS),
        (("RCPT", 421, "4.7.0 Too many connections from your host"), SERVER),
        (("RCPT", 452, "Insufficient system storage"), SERVER),
        (("RCPT", 450, "4.4.1 No answer from host"), SERVER),
        (("MAIL", 450, "4.7.1 Sender domain not found"), SERVER),
        (("connect", 450, "4.7.1 Client host rejected"), SERVER),
    ],
)
def test_what_is_late_is_the_recipients_or_the_servers(said: Said, expected: Outcome) -> None:
    assert without_words(judge(Suspicion(), said, A)) == expected


def test_what_is_remembered_is_bounded() -> None:
    suspicion = Suspicion()

    for number in range(1000):
        judge(suspicion, BLOCKED, f"ana@{number}.example")
        judge(suspicion, GREY, f"ana@{number}.example")

    assert len(suspicion._us.refused_at) == len(suspicion._server.refused_at) == 3
