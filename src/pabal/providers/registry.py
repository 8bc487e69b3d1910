"""Finds providers by name: entry points of the group `pabal.providers`, ours and third parties' alike."""

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint
from typing import Any, cast

from pabal.entry_points import find_entry_points, load_entry_point
from pabal.errors import ConfigError
from pabal.providers.port import Provider, ProviderContext, ProviderFactory

GROUP = "pabal.providers"
"""The entry-point group: a name and a callable `create(options, context) -> Provider`."""


def find_providers() -> Mapping[str, Sequence[EntryPoint]]:
    """What is installed, by name in order. More than one under a name: two packages claim it."""
    return find_entry_points(GROUP)


def create_provider(name: str, *, options: Mapping[str, Any], context: ProviderContext) -> Provider:
    """Make the provider called `name`. Does no I/O beyond importing the package that has it.

    Raises:
        ConfigError: no such provider (the message lists what is installed), two packages claim the name, the package
            cannot be loaded, or the options are wrong.
    """
    installed = find_providers()
    points = installed.get(name, ())
    if not points:
        raise ConfigError(f"no provider {name!r}; installed: {', '.join(installed) or 'none'}")
    return cast("ProviderFactory", load_entry_point(points, what="provider"))(options, context)
