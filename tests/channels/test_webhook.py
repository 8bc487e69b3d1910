"""Webhook addresses: one spelling for one URL, and none for a host that cannot exist; and the generic document."""

from datetime import timedelta

import msgspec
import pytest

from pabal.channels.content import make_content
from pabal.channels.webhook import WebhookChannel, WebhookContent
from pabal.errors import InvalidAddress
from pabal.notification import Content
from tests.dlq.letters import NOW, a_delivery

DELIVERY = a_delivery(1, accepted_at=NOW, expires_at=NOW + timedelta(hours=1))


def test_the_generic_document_says_what_it_is() -> None:
    rendered = WebhookChannel().render(DELIVERY, Content(title="Order 17", data={"order": 17}))

    document = msgspec.json.decode(rendered.body)
    assert list(document) == ["type", "id", "notification_id", "timestamp", "title", "data"]
    assert (document["type"], document["id"]) == ("notification", str(DELIVERY.id))


def test_a_payload_of_the_callers_own_is_posted_as_it_is() -> None:
    rendered = WebhookChannel().render(
        DELIVERY, make_content(title="x", parts={"webhook": WebhookContent(payload={"a": [1, None]})})
    )

    assert rendered.body == '{"a":[1,null]}'


@pytest.mark.parametrize(
    ("address", "canonical"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://EXAMPLE.com:443/Hook?A=1#x", "https://example.com/Hook?A=1"),
        ("https://bücher.example/hook", "https://xn--bcher-kva.example/hook"),
        ("https://BÜCHER.example:8443/hook", "https://xn--bcher-kva.example:8443/hook"),
        ("https://bu\u0308cher.example/hook", "https://xn--bcher-kva.example/hook"),
        ("https://faß.example/", "https://xn--fa-hia.example/"),  # IDNA 2003 made `fass` of it
        ("https://例え.テスト/", "https://xn--r8jz45g.xn--zckzah/"),
        ("https://例え。テスト/", "https://xn--r8jz45g.xn--zckzah/"),  # the ideographic full stop
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000/"),
        ("http://１２７.0.0.1/", "http://127.0.0.1/"),
        ("http://[2001:DB8::0:1]/", "http://[2001:db8::1]/"),
        ("http://my_service/", "http://my_service/"),
        ("http://localhost:8025/hook/a", "http://localhost:8025/hook/a"),
        ("https://r3---sn-.example./", "https://r3---sn-.example./"),
        ("https://1.2.3.example/", "https://1.2.3.example/"),
        (f"https://{'a' * 63}.example/", f"https://{'a' * 63}.example/"),
    ],
)
def test_an_address_has_one_spelling(address: str, canonical: str) -> None:
    assert WebhookChannel().canonical(address) == canonical
    assert WebhookChannel().canonical(canonical) == canonical


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("https://256.256.256.256/", "four numbers from 0 to 255"),
        ("https://1.2.3/", "four numbers"),
        ("https://127.1/", "four numbers"),
        ("https://2130706433/", "four numbers"),
        ("https://0x7f.1/", "four numbers"),
        ("https://1.2.3.0x4/", "four numbers"),
        ("https://example.0x/", "ends in a number"),
        ("https://foo.123/", "ends in a number"),
        ("https://1.2.3.04/", "four numbers"),
        ("https://1.2.3.4.5/", "four numbers"),
        ("https://２５６.256.256.256/", "four numbers"),
        ("https://a!b.example/", "labels of letters, digits"),
        ("https://*.example/", "labels of letters"),
        ("https://a%20b.example/", "labels of letters"),
        ("https://a..example/", "labels of letters"),
        ("https://a../", "labels of letters"),
        ("https://./", "labels of letters"),
        (f"https://{'a' * 64}.example/", "1 to 63"),
        (f"https://{'a.' * 130}example/", "at most 253"),
        (f"https://{'ü' * 60}.example/", "not an internationalised host name"),
        ("https://☃.example/", "not an internationalised host name: .* not allowed"),
        ("https://a\u202eb.example/", "not an internationalised host name"),
        ("https://ü..example/", "not an internationalised host name"),
        ("https://[::1%25eth0]/", "zone"),
        ("https://[::12345]/", "not a URL"),
        ("https://example.com/bücher", "write other characters percent-encoded"),
        ("https://example.com/?q=ü", "write other characters percent-encoded"),
        ("https://example.com/a b", "no spaces"),
        ("https://bücher@example.com/", "credentials"),
        ("https:///x", "absolute http"),
        ("ftp://bücher.example/", "absolute http"),
        ("https://example.com:0/", "port 0"),
        ("https://a℀b.example/", "not a URL"),
    ],
)
def test_an_address_that_cannot_be_called_is_refused_and_says_why(address: str, says: str) -> None:
    with pytest.raises(InvalidAddress, match=says):
        WebhookChannel().canonical(address)
