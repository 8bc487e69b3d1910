"""The laws of a channel as a test class that every channel passes: e-mail's, the webhook's, yours.

Subclass `ChannelContract` in a test module, give it the channel and some addresses and contents, and pytest runs every
law. docs/channels.md and examples/pabal-channel-ntfy show whole ones.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from pabal.channels.port import Channel, Rendered
from pabal.errors import InvalidAddress
from pabal.notification import Address, Content, Delivery, delivery_id, notification_id

_NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class ChannelContract(ABC):
    """What `pabal.channels.port.Channel` promises, law by law."""

    addresses: Sequence[tuple[str, str]]
    """Addresses that the channel knows, as callers may spell them, each with its canonical spelling."""

    refused: Sequence[str]
    """Addresses that it refuses."""

    sendable: Sequence[Content]
    """Contents that it can send; at least one."""

    @abstractmethod
    def make(self) -> Channel:
        """The channel, as its entry point makes it."""

    @pytest.fixture
    def channel(self) -> Channel:
        """The channel of this law."""
        return self.make()

    def test_it_has_a_name_and_says_how_it_is_carried(self, channel: Channel) -> None:
        """The name stands in topics, and is a key of JSON and TOML."""
        assert re.fullmatch(r"[a-z][a-z0-9]{0,30}", channel.name)
        assert channel.default_provider
        assert channel.default_concurrency >= 1

    def test_an_address_has_one_spelling(self, channel: Channel) -> None:
        """Ids are made from it: two spellings would be two deliveries."""
        for spelt, canonical in self.addresses:
            assert channel.canonical(spelt) == canonical
            assert channel.canonical(canonical) == canonical

    def test_what_is_no_address_is_refused_with_words(self, channel: Channel) -> None:
        """The words are the caller's error."""
        for address in (*self.refused, "", "\0", "x" * 100_000):
            with pytest.raises(InvalidAddress) as raised:
                channel.canonical(address)
            assert str(raised.value).strip()

    def test_a_suppression_has_one_spelling(self, channel: Channel) -> None:
        """It is looked up in each claim, by the delivery's canonical address."""
        for _, canonical in self.addresses:
            suppressed = channel.suppressed_as(canonical)
            assert suppressed
            assert channel.suppressed_as(suppressed) == suppressed

    def test_an_order_key_is_the_same_each_time(self, channel: Channel) -> None:
        """A retry stays in its lane."""
        for _, canonical in self.addresses:
            key = channel.order_key(canonical)
            assert key is None or key
            assert channel.order_key(canonical) == key

    def test_a_content_that_says_nothing_is_refused(self, channel: Channel) -> None:
        """And the words say what it needs."""
        assert channel.check(Content())

    def test_what_it_can_send_is_rendered_alike_each_time(self, channel: Channel) -> None:
        """A retry says what the first attempt said."""
        assert self.sendable
        for content in self.sendable:
            assert channel.check(content) is None
            for _, address in self.addresses:
                rendered = channel.render(_delivery(channel, address), content)
                assert isinstance(rendered, Rendered)
                assert channel.render(_delivery(channel, address), content) == rendered

    def test_its_part_of_the_content_is_declared_in_full(self, channel: Channel) -> None:
        """A record without a field is one that has None there, and reads as it was written."""
        part = channel.part
        if part is None:
            pytest.skip("it says nothing of its own")
        empty = part.model()
        assert part.fields
        assert msgspec.structs.asdict(empty) == dict.fromkeys(part.fields)
        for content in self.sendable:
            own = content.part(channel.name)
            if own is not None:
                assert msgspec.json.decode(msgspec.json.encode(own), type=part.model) == own


def _delivery(channel: Channel, address: str) -> Delivery:
    notification = notification_id(tenant="acme", idempotency_key="key-1")
    return Delivery(
        id=delivery_id(notification, Address(channel=channel.name, address=address)),
        notification_id=notification,
        tenant="acme",
        channel=channel.name,
        address=address,
        class_="standard",
        accepted_at=_NOW,
        expires_at=_NOW + timedelta(days=1),
    )
