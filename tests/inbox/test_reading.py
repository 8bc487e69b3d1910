from datetime import UTC, datetime
from email.message import EmailMessage

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pabal.inbox.mailbag import CaughtEmail, Hook, Signature
from pabal.inbox.reading import EmailView, HookView, html_of, summarise, view

NOW = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)


def email(raw: bytes) -> CaughtEmail:
    return CaughtEmail(id_=1, received_at=NOW, mail_from="noreply@example.com", rcpt_to=["ana@example.com"], raw=raw)


def hook(body: bytes) -> Hook:
    signature = Signature(verdict="unchecked", detail="no webhook secret is configured here")
    return Hook(id_=1, received_at=NOW, path="/hook/orders", headers=[("host", "x")], body=body, signature=signature)


def email_view(raw: bytes) -> EmailView:
    seen = view(email(raw))
    assert isinstance(seen, EmailView)
    return seen


def written(*, text: str | None = None, html: str | None = None) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = "Bestellung für 한국"
    message["From"] = "Shop <noreply@example.com>"
    if text is not None:
        message.set_content(text)
    if html is not None:
        message.add_alternative(html, subtype="html")
    return message


def test_an_email_is_read_as_its_reader_would() -> None:
    seen = email_view(written(text="Grüße", html="<p>Grüße</p>").as_bytes())

    assert seen.subject == "Bestellung für 한국"
    assert (seen.text, seen.html) == ("Grüße\n", "<p>Grüße</p>\n")
    assert ("From", "Shop <noreply@example.com>") in seen.headers
    assert seen.rcpt_to == ("ana@example.com",)
    assert seen.attachments == ()


def test_attachments_are_named() -> None:
    message = written(text="see below")
    message.add_attachment(b"12345", maintype="application", subtype="pdf", filename="rechnung-ü.pdf")

    (attachment,) = email_view(message.as_bytes()).attachments

    assert (attachment.name, attachment.content_type, attachment.octets) == ("rechnung-ü.pdf", "application/pdf", 5)


def test_the_line_of_an_email_shows_how_its_text_begins() -> None:
    line = summarise(email(written(text="Hello Ana,\n\n   it is " + "long " * 100).as_bytes()))

    assert line.title == "Bestellung für 한국"
    assert line.snippet.startswith("Hello Ana, it is long long")
    assert len(line.snippet) == 160


def test_the_line_of_an_email_without_text_shows_what_its_html_says() -> None:
    html = "<html><head><title>t</title><style>p{color:red}</style></head><body><p>Hello <b>Ana</b> &amp; all</p>"

    line = summarise(email(written(html=html).as_bytes()))

    assert line.snippet == "Hello Ana & all"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no head at all",
        b"Subject: =?nonsense?q?x?=\r\n\r\nbody",
        b"Subject: =?utf-8?b?!!!?=\r\n\r\nbody",
        b"Subject: \xff\xfe\r\n\r\n\xff",
        b"Content-Type: text/plain; charset=nonsense\r\n\r\nbody",
        b"Content-Type: multipart/alternative\r\n\r\nno boundary",
        b"Content-Type: ;;;\r\nContent-Transfer-Encoding: base64\r\n\r\n!",
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: inline; filename*=x''%\r\n\r\n",
    ],
)
def test_a_badly_made_email_can_still_be_looked_at(raw: bytes) -> None:
    assert msgspec.json.encode(summarise(email(raw)))
    assert msgspec.json.encode(view(email(raw)))
    html_of(email(raw))


field = st.sampled_from(
    ["Subject", "From", "Content-Type", "Content-Disposition", "Content-Transfer-Encoding", "MIME-Version", "X"]
)
value = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            b"text/html; charset=x",
            b"multipart/mixed; boundary=b",
            b"=?utf-8?q?=E4?=",
            b"base64",
            b'attachment; filename="',
        ]
    ),
)


@given(
    head=st.lists(st.tuples(field, value), max_size=6),
    body=st.binary(max_size=200) | st.just(b"--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b--"),
)
@example(head=[], body=b"")
def test_no_octets_at_all_break_the_page(head: list[tuple[str, bytes]], body: bytes) -> None:
    raw = b"".join(b"%b: %b\r\n" % (name.encode(), content) for name, content in head) + b"\r\n" + body

    assert msgspec.json.encode(summarise(email(raw)))
    assert msgspec.json.encode(view(email(raw)))


@given(st.binary())
@example(b'"\\ud800"')
@example(b"[" * 100_000)
def test_no_webhook_breaks_the_page(body: bytes) -> None:
    assert msgspec.json.encode(summarise(hook(body)))
    assert msgspec.json.encode(view(hook(body)))


def test_a_webhook_of_json_is_shown_indented() -> None:
    seen = view(hook(b'{"order": 17}'))

    assert isinstance(seen, HookView)
    assert (seen.body, seen.pretty) == ('{"order": 17}', '{\n  "order": 17\n}')


def test_a_webhook_of_something_else_is_shown_as_it_is() -> None:
    seen = view(hook(b"order=17"))

    assert isinstance(seen, HookView)
    assert (seen.body, seen.pretty) == ("order=17", None)
