"""The public contract, and what only this channel says."""

from pabal_channel_ntfy.channel import NtfyChannel, NtfyContent

from pabal.channels.content import make_content
from pabal.channels.port import Channel
from pabal.notification import Content
from pabal.testing import ChannelContract


class TestNtfyChannel(ChannelContract):
    """Every law of a channel."""

    addresses = (("backups", "backups"), ("Backups_2", "Backups_2"))
    refused = ("back ups", "a/b", "x" * 65, "ü")
    sendable = (Content(body="Disk full"), make_content(parts={"ntfy": NtfyContent(message="Disk full", priority=5)}))

    def make(self) -> Channel:
        """As the entry point does."""
        return NtfyChannel()


def test_a_title_alone_is_not_enough() -> None:
    """ntfy would show its own word in the place of the text."""
    assert NtfyChannel().check(Content(title="Backup failed")) == "ntfy needs a body, or ntfy.message"
