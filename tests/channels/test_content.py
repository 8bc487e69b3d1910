"""The content with the channels' parts, wherever it stands."""

import msgspec

from pabal.channels.content import content_type, delivery_type, make_content
from pabal.channels.email import EmailContent
from pabal.channels.suppression import suppression_key
from pabal.channels.webhook import WebhookContent
from pabal.notification import Content, Delivery
from tests.dlq.letters import NOW, a_delivery

BOTH = make_content(
    title="t", parts={"email": EmailContent(subject="s"), "webhook": WebhookContent(payload={"a": [1, None]})}
)


def test_a_delivery_is_read_with_what_each_channel_says() -> None:
    delivery = msgspec.structs.replace(a_delivery(1, accepted_at=NOW), content=BOTH)

    read = msgspec.json.decode(msgspec.json.encode(delivery), type=delivery_type())

    assert type(read) is Delivery
    assert read == delivery
    assert read.content is not None
    assert read.content.part("email") == EmailContent(subject="s")
    assert read.content.part("webhook") == WebhookContent(payload={"a": [1, None]})
    assert read.content.part("sms") is None


def test_contents_are_equal_when_they_say_the_same() -> None:
    plain, read = Content(title="t", body="b"), content_type()(title="t", body="b")

    assert plain == read
    assert (plain != read) is False
    assert hash(plain) == hash(read)
    assert Content(title="t") != Content(title="u")
    assert Content(title="t") != BOTH
    assert content_type()(title="t") != BOTH
    assert Content() != "t"


def test_what_another_version_says_beside_it_is_passed_over() -> None:
    newer = b'{"title":"t","sms":{"text":"x"},"email":{"subject":"s","amp":"x"}}'

    read = msgspec.json.decode(newer, type=content_type())

    assert read == make_content(title="t", parts={"email": EmailContent(subject="s")})


def test_a_suppression_is_named_as_its_channel_spells_it() -> None:
    def key(channel: str, address: str) -> bytes:
        return suppression_key(tenant="shop", channel=channel, address=address)

    assert key("email", "Ana@Example.com") == key("email", "ana@example.com") == b"shop/email/ana@example.com"
    assert key("webhook", "https://a.example/Hook") == b"shop/webhook/https://a.example/Hook"
    assert key("sms", "Ana") == b"shop/sms/Ana"
