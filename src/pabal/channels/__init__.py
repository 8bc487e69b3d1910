"""What each medium can carry: addresses, rendering, default order keys. Pure.

A new medium is one module here and one line in `CHANNELS`.
"""

from collections.abc import Mapping

from pabal.channels.email import Email
from pabal.channels.port import Channel
from pabal.channels.webhook import Webhook

CHANNELS: Mapping[str, Channel] = {channel.name: channel for channel in (Email(), Webhook())}

__all__ = ["CHANNELS"]
