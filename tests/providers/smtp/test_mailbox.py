import pytest
from hypothesis import given
from hypothesis import strategies as st

from pabal.errors import InvalidAddress
from pabal.providers.smtp.mailbox import Mailbox, parse_mailbox, to_mailbox


@pytest.mark.parametrize(
    ("address", "carried", "needs_smtputf8"),
    [
        ("ana@example.com", "ana@example.com", False),
        ("ana+tag@sub.example.com", "ana+tag@sub.example.com", False),
        ("ana@bücher.example", "ana@xn--bcher-kva.example", False),
        ("ana@faß.example", "ana@xn--fa-hia.example", False),
        ("jörg@example.com", "jörg@example.com", True),
        ("jörg@bücher.example", "jörg@xn--bcher-kva.example", True),
    ],
)
def test_only_a_local_part_beyond_ascii_needs_smtputf8(address: str, carried: str, needs_smtputf8: bool) -> None:
    mailbox = to_mailbox(address)

    assert mailbox == Mailbox(address=carried)
    assert mailbox.needs_smtputf8 is needs_smtputf8


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ana",
        "ana@example.com\r\nDATA",
        "ana@example.com> SIZE=1",
        "a b@example.com",
        "ana@example.com,bob@example.com",
        "ana@example.com\nBcc: bob@example.com",
        "ana\x00@example.com",
        "jörg\n@example.com",
        "jörg@example.com\u2028RSET",
        "a" * 250 + "@example.com",
        "ö" * 64 + "@" + "a" * 60 + "." + "b" * 60 + "." + "c" * 60 + ".example",
    ],
)
def test_an_address_that_no_command_can_carry_is_refused(address: str) -> None:
    with pytest.raises(InvalidAddress):
        to_mailbox(address)


@given(st.text())
def test_no_text_at_all_becomes_a_mailbox_that_could_end_a_command(text: str) -> None:
    try:
        mailbox = to_mailbox(text)
    except InvalidAddress:
        return

    assert not set(mailbox.address) & set("\r\n\x00<> ,")


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("noreply@example.com", "", "noreply@example.com"),
        ("<noreply@example.com>", "", "noreply@example.com"),
        ("Shop <noreply@example.com>", "Shop", "noreply@example.com"),
        ('"Shop, Inc." <noreply@example.com>', "Shop, Inc.", "noreply@example.com"),
        (r'"Bo \"The Shop\" Inc., Ltd." <bo@example.com>', 'Bo "The Shop" Inc., Ltd.', "bo@example.com"),
        (r'"A \\ B" <bo@example.com>', r"A \ B", "bo@example.com"),
        ('"A <B>" <bo@example.com>', "A <B>", "bo@example.com"),
        ('Bo "The Shop" Inc. <bo@example.com>', "Bo The Shop Inc.", "bo@example.com"),
        ('"" <bo@example.com>', "", "bo@example.com"),
        ("Bo (Shop) <bo@example.com>", "Bo (Shop)", "bo@example.com"),
        ("=?utf-8?q?B=C3=BCcher?= <bo@example.com>", "Bücher", "bo@example.com"),
        ("=?utf-8?b?QsO8Y2hlcg==?= =?utf-8?q?_Gmb?= <bo@example.com>", "Bücher Gmb", "bo@example.com"),
        ('"=?utf-8?q?B=C3=BCcher?=" <bo@example.com>', "=?utf-8?q?B=C3=BCcher?=", "bo@example.com"),
        ("O'Neill & Söhne 🎉 <bo@example.com>", "O'Neill & Söhne 🎉", "bo@example.com"),
        ("Shop, Inc. <noreply@example.com>", "Shop, Inc.", "noreply@example.com"),
        (" 한국 상점  < shop@bücher.example > ", "한국 상점", "shop@xn--bcher-kva.example"),
    ],
)
def test_a_sender_may_have_a_name(text: str, name: str, address: str) -> None:
    assert parse_mailbox(text) == Mailbox(name=name, address=address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Shop",
        "Shop <noreply@example.com",
        "Shop <>",
        "A\r\nB <a@example.com>",
        "a@example.com, b@example.com",
        '"Bo <a@example.com>',
        'B"o <a@example.com>',
        r'"Bo\" <a@example.com>',
        "=?utf-8?q?a=0D=0Ab?= <a@example.com>",
        "=?nope-8?q?a?= <a@example.com>",
        "=?utf-8?b?a?= <a@example.com>",
        '"a\\\x00b" <a@example.com>',
    ],
)
def test_a_sender_that_is_no_single_mailbox_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress):
        parse_mailbox(text)
