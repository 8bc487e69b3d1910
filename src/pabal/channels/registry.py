"""Which channels are installed: entry points of the group `pabal.channels`, ours and third parties' alike.

Every process of an installation has the same channels installed: what the API accepts, a worker reads.
"""

import functools
import re
from collections.abc import Mapping
from typing import Any, Final

from pabal.channels.port import Channel
from pabal.entry_points import find_entry_points, load_entry_point
from pabal.errors import ConfigError
from pabal.notification import UNKNOWN_CHANNEL, Content

GROUP: Final = "pabal.channels"
"""The entry-point group: a channel's name, and a callable without arguments that makes it."""

_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,30}")
"""It stands in topics' names, and as a key of JSON and TOML."""
_TAKEN: Final = frozenset({*Content.__struct_fields__, "sample", UNKNOWN_CHANNEL})
"""A content's generic parts, a template's data, and the dead topic of what does not tell its channel."""


@functools.cache
def installed_channels() -> Mapping[str, Channel]:
    """Every channel, by name, in the order of the names. Found once in a process.

    Raises:
        ConfigError: two packages claim a name, a package cannot be loaded, or what it brings is no channel.
    """
    found = find_entry_points(GROUP)
    if not found:
        raise ConfigError(
            "no channel is installed, not even Pabal's own: install Pabal anew (in a checkout: make install)"
        )
    return {name: _make(name, load_entry_point(points, what="channel")) for name, points in found.items()}


def _make(name: str, create: Any) -> Channel:
    if not _NAME.fullmatch(name) or name in _TAKEN:
        taken = ", ".join(sorted(_TAKEN))
        raise ConfigError(
            f"no channel can be called {name!r}: a name is made of a-z and 0-9, at most 31, and is none of {taken}"
        )
    channel: Channel = create()
    if channel.name != name:
        raise ConfigError(f"channel {name!r} calls itself {channel.name!r}: its entry point has its name")
    try:
        if channel.part is not None:
            channel.part.fields  # noqa: B018 - looked at now, so that a wrong part stops the start
    except TypeError as error:
        raise ConfigError(f"channel {name!r}: its part of the content cannot be used: {error}") from error
    return channel
