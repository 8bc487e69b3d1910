from datetime import timedelta

import pytest

from pabal.codec import event_record, read_event
from pabal.dlq.letters.letter import LetterId
from pabal.dlq.letters.marks import DISCARDED
from pabal.dlq.letters.selection import Selection
from pabal.errors import ConfigError, InvalidAddress, LetterRefused, NoSuchLetter
from pabal.notification import EVENTS_TOPIC
from tests.dlq.lab import Lab, an_event

FIRST = LetterId("webhook", 0, 0)


async def test_letters_are_listed_newest_first_up_to_a_limit_with_how_many_there_are(lab: Lab) -> None:
    now = lab.clock.now()
    for number in range(5):
        await lab.bury(lab.delivery(number), at=now + timedelta(seconds=number))

    newest, total = await lab.desk.letters.newest(Selection(), states=(), limit=2)

    assert [str(filed.letter.id) for filed in newest] == ["webhook/0/4", "webhook/0/3"]
    assert total == 5


async def test_a_letter_that_was_written_twice_is_listed_once(lab: Lab) -> None:
    await lab.bury(lab.delivery(1), lab.delivery(1), lab.delivery(2))

    newest, total = await lab.desk.letters.newest(Selection(), states=(), limit=10)

    assert {str(filed.letter.id) for filed in newest} == {"webhook/0/0", "webhook/0/2"}
    assert total == 2


async def test_a_channel_that_does_not_exist_is_refused_with_those_that_do(lab: Lab) -> None:
    with pytest.raises(ConfigError, match="no channel 'fax' here; there are: email, webhook, unknown"):
        await lab.desk.letters.newest(Selection(channels=("fax",)), states=(), limit=10)


async def test_a_place_without_a_letter_says_which_places_have_one(lab: Lab) -> None:
    await lab.bury(lab.delivery(1), lab.delivery(2))

    with pytest.raises(NoSuchLetter, match="webhook/0 keeps 0 to 1"):
        await lab.desk.letters.find(LetterId("webhook", 0, 2))
    with pytest.raises(NoSuchLetter, match="nothing is kept there"):
        await lab.desk.letters.find(LetterId("webhook", 1, 0))
    with pytest.raises(ConfigError, match="no channel 'fax'"):
        await lab.desk.letters.find(LetterId("fax", 0, 0))


async def test_the_history_of_a_letter_is_what_was_told_of_its_delivery(lab: Lab) -> None:
    delivery, now = lab.delivery(1), lab.clock.now()
    await lab.append(event_record(an_event(delivery, "dead_lettered", at=now)))
    await lab.append(event_record(an_event(delivery, "deferred", attempt=1, at=now - timedelta(minutes=1))))
    await lab.append(event_record(an_event(lab.delivery(2), "sent", at=now)))
    await lab.bury(delivery)

    filed = await lab.desk.letters.find(FIRST)

    assert [event.kind for event in await lab.desk.histories.of(filed.letter)] == ["deferred", "dead_lettered"]


async def test_a_discarded_letter_is_closed_with_who_and_why_in_the_audit_log_and_in_the_deliverys_events(
    lab: Lab,
) -> None:
    await lab.bury(lab.delivery(1))

    filed = await lab.desk.decisions.discard(FIRST, by="ana", reason="the customer has gone")

    assert filed.standing.state == "discarded"
    [fact] = await lab.facts(DISCARDED)
    assert (fact.by, fact.reason, fact.subject) == ("ana", "the customer has gone", "webhook/0/0")
    [told] = [read_event(record) for record in await lab.records(EVENTS_TOPIC)]
    assert (told.kind, told.delivery_id, told.attempt) == ("discarded", lab.delivery(1).id, 3)
    assert told.detail == "ana: the customer has gone"


async def test_bytes_that_nobody_can_read_can_be_discarded_but_not_edited(lab: Lab) -> None:
    await lab.bury(None)

    with pytest.raises(LetterRefused, match="cannot be edited: schema"):
        await lab.desk.decisions.edit(FIRST, address="https://a.example/", provider=None, by="ana", reason="x")
    filed = await lab.desk.decisions.discard(FIRST, by="ana", reason="junk")

    assert filed.standing.state == "discarded"
    assert await lab.records(EVENTS_TOPIC) == []


async def test_what_is_closed_stays_closed(lab: Lab) -> None:
    await lab.bury(lab.delivery(1))
    await lab.desk.decisions.discard(FIRST, by="ana", reason="x")

    with pytest.raises(LetterRefused, match=r"was discarded by ana at .*nothing left to discard"):
        await lab.desk.decisions.discard(FIRST, by="ben", reason="y")
    with pytest.raises(LetterRefused, match="nothing left to edit"):
        await lab.desk.decisions.edit(FIRST, address="https://a.example/", provider=None, by="ben", reason="y")


async def test_an_edit_corrects_the_address_under_a_new_key_and_leaves_the_letter_open(lab: Lab) -> None:
    await lab.bury(lab.delivery(1))

    filed = await lab.desk.decisions.edit(
        FIRST, address="https://EXAMPLE.com/new", provider=None, by="ana", reason="moved"
    )

    delivery = filed.letter.delivery
    assert delivery is not None
    assert delivery.address == "https://example.com/new"
    assert delivery.idempotency_key == f"{lab.delivery(1).id}.1"
    assert filed.standing.state == "open"


async def test_a_second_edit_before_a_redrive_is_the_same_edition(lab: Lab) -> None:
    await lab.bury(lab.delivery(1, edit=4))

    await lab.desk.decisions.edit(FIRST, address="https://a.example/", provider=None, by="ana", reason="x")
    filed = await lab.desk.decisions.edit(FIRST, address="https://b.example/", provider=None, by="ana", reason="x")

    assert filed.letter.delivery is not None
    assert (filed.letter.delivery.edit, filed.letter.delivery.address) == (5, "https://b.example/")


async def test_an_order_key_that_came_from_the_address_follows_it(lab: Lab) -> None:
    mail = lab.delivery(1, channel="email", address="ana@exmaple.com", order_key="ana@exmaple.com")
    own = lab.delivery(2, channel="email", address="ana@exmaple.com", order_key="orders")
    await lab.bury(mail, own)

    for offset in (0, 1):
        letter = LetterId("email", 0, offset)
        await lab.desk.decisions.edit(letter, address="ana@example.com", provider=None, by="ana", reason="typo")

    keys = [(await lab.desk.letters.find(LetterId("email", 0, offset))).letter.delivery for offset in (0, 1)]
    assert [delivery.order_key for delivery in keys if delivery] == ["ana@example.com", "orders"]


@pytest.mark.parametrize(
    ("address", "provider", "error", "says"),
    [
        ("no address", None, InvalidAddress, "'no address' is no address for webhook"),
        (None, "pigeon", ConfigError, "no provider 'pigeon' carries webhook here; there are: webhook"),
        (None, None, LetterRefused, "nothing to change"),
        ("https://example.com/hook", None, LetterRefused, "nothing to change"),
    ],
)
async def test_an_edit_that_cannot_be_used_says_why(
    lab: Lab, address: str | None, provider: str | None, error: type[Exception], says: str
) -> None:
    await lab.bury(lab.delivery(1))

    with pytest.raises(error, match=says):
        await lab.desk.decisions.edit(FIRST, address=address, provider=provider, by="ana", reason="x")


async def test_nothing_is_edited_while_an_attempt_may_have_been_sent(lab: Lab) -> None:
    await lab.bury(lab.delivery(1), error_class="uncertain")
    await lab.append(event_record(an_event(lab.delivery(2), "unknown", attempt=1, at=lab.clock.now())))
    await lab.append(event_record(an_event(lab.delivery(3), "sent", attempt=1, at=lab.clock.now())))
    await lab.bury(lab.delivery(2), lab.delivery(3), lab.delivery(4, provider="webhook"))

    for offset, says in (
        (0, "may have been sent"),
        (1, "may have been sent"),
        (2, "was sent meanwhile"),
        (3, "may have been sent"),
    ):
        with pytest.raises(LetterRefused, match=says):
            await lab.desk.decisions.edit(
                LetterId("webhook", 0, offset), address="https://a.example/", provider=None, by="ana", reason="x"
            )


async def test_many_are_discarded_at_once_and_those_closed_already_stay_as_they_are(lab: Lab) -> None:
    await lab.bury(*(lab.delivery(number) for number in range(250)))
    await lab.desk.decisions.discard(FIRST, by="ana", reason="x")
    ends = await lab.desk.letters.ends(Selection())
    await lab.bury(lab.delivery(999))

    steps = [count async for count in lab.desk.decisions.discard_all(Selection(), ends=ends, by="ben", reason="y")]

    assert (steps[0], steps[-1]) == (100, 249)
    assert [fact.by for fact in await lab.facts(DISCARDED)] == ["ana", *["ben"] * 249]
    _, still_open = await lab.desk.letters.newest(Selection(), states=("open",), limit=1)
    assert still_open == 1
