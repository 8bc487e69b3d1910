from datetime import timedelta

import msgspec

from pabal.channels.webhook import Webhook
from pabal.notification import Content, WebhookContent
from tests.dlq.letters import NOW, a_delivery

DELIVERY = a_delivery(1, accepted_at=NOW, expires_at=NOW + timedelta(hours=1))


def test_the_generic_document_says_what_it_is() -> None:
    document = msgspec.json.decode(Webhook().render(DELIVERY, Content(title="Order 17", data={"order": 17})).body)

    assert list(document) == ["type", "id", "notification_id", "timestamp", "title", "data"]
    assert (document["type"], document["id"]) == ("notification", str(DELIVERY.id))


def test_a_payload_of_the_callers_own_is_posted_as_it_is() -> None:
    rendered = Webhook().render(DELIVERY, Content(title="x", webhook=WebhookContent(payload={"a": [1, None]})))

    assert rendered.body == '{"a":[1,null]}'
