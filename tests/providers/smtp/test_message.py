import re
from datetime import UTC, datetime
from email import message_from_bytes, message_from_string, policy
from email.headerregistry import AddressHeader
from email.message import EmailMessage

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pabal.channels.port import Rendered
from pabal.providers.smtp.mailbox import Mailbox, parse_mailbox, to_mailbox
from pabal.providers.smtp.message import compose

SENDER = parse_mailbox("Shop <noreply@example.com>")
TO = to_mailbox("ana@example.com")
KEY = "0b9d5b6e-5d5c-4b6f-9a57-3f3c6f4be5a1"
NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
FIELDS = ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]

anything = st.text(st.characters(codec=None, exclude_categories=()))
hostile = st.one_of(
    anything,
    st.text(st.sampled_from('ab \t\r\n\x00\x0b\x1c\x85\u2028.:=?<>"\\é한👨\u200d👩\ud800')),
    st.lists(st.sampled_from(["\r\nBcc: x@example.com", "=?utf-8?q?=0d=0aX?=", ".\r\n", "\n.\n", "--=_", "word "])).map(
        "".join
    ),
)


def written(rendered: Rendered, *, sender: Mailbox = SENDER, to: Mailbox = TO, key: str = KEY) -> bytes:
    return compose(rendered, sender=sender, to=to, key=key, now=NOW)


def read(data: bytes) -> EmailMessage:
    return message_from_bytes(data, policy=policy.default)


def text_of(message: EmailMessage, *, subtype: str) -> str:
    part = message.get_body((subtype,))
    assert part is not None
    content = part.get_content()
    assert isinstance(content, str)
    return content.replace("\r\n", "\n")


def one_line(text: str) -> str:
    """What a reader is to see of a text that went into a head field."""
    controls = "".join(map(chr, [*range(0x21), *range(0x7F, 0xA0), 0x2028, 0x2029]))
    return re.sub(f"[{re.escape(controls)}]+", " ", text).strip(" ").encode("utf-8", "replace").decode()


def one_end(text: str) -> str:
    """A body as a reader gets it: LF line ends, the last one present, no lone surrogates."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
    return lines if lines.endswith("\n") else lines + "\n"


def test_a_plain_message_is_what_one_would_write_by_hand() -> None:
    data = written(Rendered(subject="Order 17 shipped", body="Hello Ana,\n\nit is on its way."))

    assert data.decode() == (
        "From: Shop <noreply@example.com>\r\n"
        "To: ana@example.com\r\n"
        "Subject: Order 17 shipped\r\n"
        "Date: Mon, 23 Nov 2026 09:30:00 +0000\r\n"
        "Message-ID: <0b9d5b6e-5d5c-4b6f-9a57-3f3c6f4be5a1@example.com>\r\n"
        "Auto-Submitted: auto-generated\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 7bit\r\n"
        "\r\n"
        "Hello Ana,\r\n"
        "\r\n"
        "it is on its way.\r\n"
    )


def test_text_and_html_are_alternatives_the_html_last_because_it_is_preferred() -> None:
    message = read(written(Rendered(subject="s", body="text", html="<p>html</p>")))

    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert text_of(message, subtype="plain") == "text\n"
    assert text_of(message, subtype="html") == "<p>html</p>\n"


def test_html_alone_is_a_single_part() -> None:
    message = read(written(Rendered(subject="s", body="", html="<p>html</p>")))

    assert message.get_content_type() == "text/html"


def test_two_attempts_are_the_same_bytes() -> None:
    rendered = Rendered(subject="s", body="text", html="<p>html</p>")

    assert written(rendered) == written(rendered)


def test_the_parts_cannot_hold_their_boundary() -> None:
    data = written(Rendered(subject="s", body="text", html="<p>html</p>"))
    boundary = read(data).get_boundary()

    again = read(written(Rendered(subject="s", body=f"--{boundary}\nmore", html="<p>html</p>")))

    assert again.get_boundary() != boundary
    assert text_of(again, subtype="plain") == f"--{boundary}\nmore\n"


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        ("Hello", "7bit"),
        ("x" * 78, "7bit"),
        ("x" * 79, "quoted-printable"),
        ("Grüße aus Köln, heute ohne weitere Umlaute", "quoted-printable"),
        ("안녕하세요 반갑습니다", "base64"),
        ("bell \x07", "quoted-printable"),
    ],
)
def test_the_transfer_encoding_is_the_most_readable_that_fits(body: str, encoding: str) -> None:
    message = read(written(Rendered(subject="s", body=body)))

    assert message["Content-Transfer-Encoding"] == encoding
    assert text_of(message, subtype="plain") == body + "\n"


@given(subject=hostile, body=hostile, html=st.none() | hostile, name=hostile, extra=hostile, key=anything)
@example(subject="a" * 5000, body="b" * 5000, html="c" * 5000, name="d" * 500, extra="e " * 900, key="f" * 900)
@example(subject="ä" * 500, body="ä" * 500, html="한" * 500, name="ä" * 100, extra="👨‍👩‍👧" * 40, key="")
def test_whatever_the_texts_are_the_reader_gets_them_and_nothing_else(
    subject: str, body: str, html: str | None, name: str, extra: str, key: str
) -> None:
    sender = Mailbox(name=one_line(name), address="noreply@example.com")
    rendered = Rendered(subject=subject, body=body, html=html, headers={"X-Extra": extra})

    data = written(rendered, sender=sender, key=key)

    message = read(data)
    assert data.isascii()
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\x00", data), "only CRLF ends a line (no SMTP smuggling)"
    assert max(map(len, data.split(b"\r\n"))) <= 998
    assert [field for field in message if field != "Content-Transfer-Encoding"] == [
        *FIELDS[:6],
        "X-Extra",
        *FIELDS[6:],
    ]
    assert one_line(message["Subject"]) == one_line(subject)
    assert one_line(message["X-Extra"]) == one_line(extra)
    assert re.fullmatch(r"<[^\s<>@]+@example\.com>", message["Message-ID"])
    assert isinstance(message["From"], AddressHeader)
    (read_sender,) = message["From"].addresses
    assert read_sender.addr_spec == "noreply@example.com"
    if body or not html:
        assert text_of(message, subtype="plain") == one_end(body)
    if html:
        assert text_of(message, subtype="html") == one_end(html)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Shop",
        "Shop, Inc.",
        'The "Shop"',
        'Bo "The Shop" Inc., Ltd.',
        r"A \ B",
        "back\\slash",
        "Müller, Söhne & Co",
        "한국 상점",
        "=?utf-8?q?hi?=",
        "x" * 90,
    ],
)
def test_a_senders_name_arrives_as_written(name: str) -> None:
    message = read(written(Rendered(subject="s", body="b"), sender=Mailbox(name=name, address="noreply@example.com")))

    (sender,) = message["From"].addresses
    assert (sender.display_name, sender.addr_spec) == (name, "noreply@example.com")


def test_a_text_that_looks_encoded_is_not_decoded_by_the_reader() -> None:
    message = read(written(Rendered(subject="=?utf-8?q?=0d=0aBcc:_x?=", body="b")))

    assert message["Subject"] == "=?utf-8?q?=0d=0aBcc:_x?="


def test_an_internationalised_local_part_stands_in_the_head_as_utf8() -> None:
    data = written(Rendered(subject="s", body="b"), to=to_mailbox("jörg@bücher.example"))
    message = message_from_string(data.decode(), policy=policy.default)

    assert message["To"].addresses[0].addr_spec == "jörg@xn--bcher-kva.example"


@pytest.mark.parametrize("name", ["", "Bad Name", "X:Y", "X\r\nBcc", "Ünicode", "From", "message-id", "Content-Type"])
def test_a_channel_cannot_set_a_head_field_that_is_ours_or_is_none(name: str) -> None:
    with pytest.raises(ValueError, match="head field"):
        written(Rendered(subject="s", body="b", headers={name: "x"}))


@pytest.mark.parametrize("body", ["a line\n" * 20_000, "ü" * 100_000, "x" * 100_000, ".\n" * 50_000])
def test_a_large_text_is_written_in_the_encoding_that_costs_least_and_arrives_whole(body: str) -> None:
    data = written(Rendered(subject="s", body=body))

    message = read(data)
    assert message["Content-Transfer-Encoding"] == "base64"
    assert max(map(len, data.split(b"\r\n"))) <= 78
    assert text_of(message, subtype="plain") == one_end(body)
