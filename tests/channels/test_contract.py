"""Both built-in channels keep the public contract."""

from pabal.channels.content import make_content
from pabal.channels.email import EmailChannel, EmailContent
from pabal.channels.port import Channel
from pabal.channels.webhook import WebhookChannel, WebhookContent
from pabal.notification import Content
from pabal.testing import ChannelContract


class TestEmail(ChannelContract):
    addresses = (("ana@example.com", "ana@example.com"), ("Ana@EXAMPLE.com", "Ana@example.com"))
    refused = ("ana", "ana@", "ana@example.123")
    sendable = (
        Content(title="Hi", body="there"),
        make_content(parts={"email": EmailContent(subject="s", text="t", html="<p>h</p>")}),
    )

    def make(self) -> Channel:
        return EmailChannel()


class TestWebhook(ChannelContract):
    addresses = (
        ("HTTPS://Example.com:443/Hook", "https://example.com/Hook"),
        ("http://[::1]/", "http://[::1]/"),
    )
    refused = ("example.com", "ftp://example.com/")
    sendable = (
        Content(data={"order": 17}),
        make_content(parts={"webhook": WebhookContent(payload=[1, None])}),
        make_content(parts={"webhook": WebhookContent(payload=None)}),
    )

    def make(self) -> Channel:
        return WebhookChannel()
