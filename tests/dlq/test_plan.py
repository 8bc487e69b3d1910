from collections.abc import Container
from datetime import timedelta

import msgspec
import pytest

from pabal.channels.suppression import suppression_key
from pabal.dlq.letters.letter import Letter
from pabal.dlq.letters.marks import State
from pabal.dlq.redrive.plan import FATES, MEANINGS, Fate, Rules, World, judge, redriven_delivery
from tests.dlq.letters import NOW, a_delivery, a_letter

SUPPRESSED = suppression_key(tenant="shop", channel="webhook", address="https://gone.example/")


def a_world(*, sent: Container[str] = ()) -> World:
    return World(now=NOW, channels=("webhook",), suppressed={SUPPRESSED}, sent=sent)


@pytest.mark.parametrize(
    ("letter", "state", "fate"),
    [
        (a_letter(a_delivery()), "open", "redrive"),
        (a_letter(a_delivery()), "redriven", "redriven"),
        (a_letter(a_delivery()), "discarded", "discarded"),
        (a_letter(a_delivery()), "resolved", "resolved"),
        (a_letter(None), "open", "undecodable"),
        (a_letter(None), "discarded", "discarded"),
        (a_letter(a_delivery(channel="email")), "open", "no_channel"),
        (a_letter(a_delivery(expires_at=NOW)), "open", "expired"),
        (a_letter(a_delivery(expires_at=NOW + timedelta(seconds=1))), "open", "redrive"),
        (a_letter(a_delivery(address="https://gone.example/")), "open", "suppressed"),
        (a_letter(a_delivery(address="https://gone.example/", tenant="other")), "open", "redrive"),
        (a_letter(a_delivery(redrives=2)), "open", "redrive"),
        (a_letter(a_delivery(redrives=3)), "open", "capped"),
        (a_letter(a_delivery(), error_class="uncertain"), "open", "uncertain"),
        (a_letter(a_delivery(), error_class="misplaced"), "open", "redrive"),
    ],
)
def test_what_becomes_of_a_letter(letter: Letter, state: State, fate: Fate) -> None:
    assert judge(letter, state=state, rules=Rules(), world=a_world()) == fate


def test_the_uncertain_are_redriven_only_when_that_is_asked_for() -> None:
    letter = a_letter(a_delivery(), error_class="uncertain")

    assert judge(letter, state="open", rules=Rules(include_uncertain=True), world=a_world()) == "redrive"


def test_what_was_sent_after_all_is_not_redriven_whatever_is_asked_for() -> None:
    letter = a_letter(a_delivery(), error_class="uncertain")
    world = a_world(sent={a_delivery().id.hex})

    assert judge(letter, state="open", rules=Rules(include_uncertain=True), world=world) == "sent"


def test_a_redriven_delivery_is_the_same_one_at_its_next_attempt_at_the_foot_of_the_ladder() -> None:
    before = a_delivery(attempt=6, rung=5, parks=2, redrives=1)

    after = redriven_delivery(a_letter(before))

    assert (after.attempt, after.rung, after.parks, after.redrives) == (7, 0, 0, 2)
    assert (after.id, after.idempotency_key) == (before.id, before.idempotency_key)
    assert after.first_failed_at == before.first_failed_at


def test_a_first_call_that_was_given_up_at_once_still_tells_since_when_the_key_is_known() -> None:
    letter = a_letter(a_delivery(attempt=1, first_failed_at=None), error_class="uncertain")

    assert redriven_delivery(letter).first_failed_at == NOW


def test_an_edited_delivery_has_a_key_that_nobody_knows_yet() -> None:
    letter = msgspec.structs.replace(a_letter(a_delivery(edit=1)), is_edited=True)

    assert redriven_delivery(letter).first_failed_at is None


def test_every_fate_has_a_meaning_in_words() -> None:
    assert set(MEANINGS) == set(FATES)
