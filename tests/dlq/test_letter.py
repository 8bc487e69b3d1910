import msgspec
import pytest

from pabal.codec import cut_record
from pabal.dlq.letters.letter import LetterId, hex_dump, parse_letter_id, read_letter
from pabal.errors import ConfigError
from tests.dlq.letters import NOW, a_dead_record, a_delivery, a_letter, in_the_log


def test_a_letter_tells_what_was_given_up_why_by_whom_and_where_it_came_from() -> None:
    letter = read_letter(in_the_log(a_dead_record(a_delivery()), offset=17))

    assert str(letter.id) == "webhook/0/17"
    assert letter.delivery == a_delivery()
    assert (letter.error_class, letter.provider, letter.tenant) == ("exhausted", "webhook", "shop")
    assert letter.message == "503 Service Unavailable"
    assert letter.origin == "pabal.deliveries.webhook.standard/1/7"
    assert (letter.at, letter.first_failed_at) == (NOW, a_delivery().first_failed_at)


def test_bytes_that_nobody_can_read_make_a_letter_that_says_so() -> None:
    letter = a_letter(None, offset=3)

    assert letter.delivery is None
    assert "schema" in (letter.undecodable or "")
    assert letter.matter == "webhook/0/3"
    assert letter.record.value == b"\xff\x00junk"


def test_a_letter_that_the_log_did_not_take_whole_says_that_it_was_cut() -> None:
    whole = a_dead_record(a_delivery())
    cut = cut_record(msgspec.structs.replace(whole, value=b"{" * 100_000))

    letter = read_letter(in_the_log(cut))

    assert "cut from 100000 bytes" in (letter.undecodable or "")


@pytest.mark.parametrize("header", ["x-failed-at", "x-first-failed-at"])
@pytest.mark.parametrize("value", [b"", b"yesterday", b"2026-01-01T00:00:00", b"\xff"])
def test_a_letter_with_headers_that_make_no_sense_is_dated_by_its_record(header: str, value: bytes) -> None:
    record = in_the_log(a_dead_record(a_delivery()))
    mangled = msgspec.structs.replace(
        record, headers=tuple((name, value if name == header else old) for name, old in record.headers)
    )

    letter = read_letter(mangled)

    assert letter.at == NOW


@pytest.mark.parametrize("text", ["webhook/0/17", "pabal.dead.webhook/0/17"])
def test_a_letter_is_named_by_channel_partition_and_offset(text: str) -> None:
    assert parse_letter_id(text) == LetterId("webhook", 0, 17)


@pytest.mark.parametrize("text", ["", "17", "webhook/17", "webhook/0/x", "webhook/0/-1", "/0/1", "a/0/1/2", "w/0/²"])
def test_what_names_no_letter_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="such as webhook/0/17"):
        parse_letter_id(text)


def test_a_hex_dump_shows_offsets_bytes_and_what_is_printable() -> None:
    assert hex_dump(b"\xff\x00junk and more, 20b!").splitlines() == [
        "00000000  ff 00 6a 75 6e 6b 20 61 6e 64 20 6d 6f 72 65 2c  ..junk and more,",
        "00000010  20 32 30 62 21                                    20b!",
    ]


def test_a_hex_dump_of_much_is_cut_and_says_how_much_is_left() -> None:
    lines = hex_dump(bytes(5000)).splitlines()

    assert lines[-1] == "… and 904 bytes more"
