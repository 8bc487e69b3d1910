"""How a channel is carried: its rendering, its provider, and the provider's configured name."""

from collections.abc import Mapping

import msgspec

from pabal.channels.port import Channel
from pabal.providers.port import Provider


class Carrier(msgspec.Struct, frozen=True, kw_only=True):
    """How one channel is carried: what it can say, which provider carries it, and that provider's configured name.

    `others` are the channel's further providers; `weight` is this one's part among them. `rate_per_second`: how many
    calls it may be given (None: any number), by all workers together.
    """

    channel: Channel
    provider: Provider
    provider_name: str
    weight: int = 1
    rate_per_second: float | None = None
    others: tuple["Carrier", ...] = ()

    @property
    def by_name(self) -> Mapping[str, "Carrier"]:
        """This one and the others."""
        return {each.provider_name: each for each in (self, *self.others)}
