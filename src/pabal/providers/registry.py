"""Finds providers by name: entry points of the group `pabal.providers`, ours and third parties' alike."""

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from pabal.errors import ConfigError
from pabal.providers.port import Provider, ProviderContext, ProviderFactory

GROUP = "pabal.providers"
"""The entry-point group: a name and a callable `create(options, context) -> Provider`."""


def find_providers() -> Mapping[str, Iterable[EntryPoint]]:
    """What is installed, by name in order. More than one under a name: two packages claim it."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        # One package that is on the path twice (a checkout and a wheel) is still one claim.
        found.setdefault(point.name, {})[point.value] = point
    return {name: tuple(found[name].values()) for name in sorted(found)}


def create_provider(name: str, *, options: Mapping[str, Any], context: ProviderContext) -> Provider:
    """Make the provider called `name`. Does no I/O beyond importing the package that has it.

    Raises:
        ConfigError: no such provider (the message lists what is installed), two packages claim the name, the package
            cannot be loaded, or the options are wrong.
    """
    installed = find_providers()
    points = tuple(installed.get(name, ()))
    if not points:
        raise ConfigError(f"no provider {name!r}; installed: {', '.join(installed) or 'none'}")
    if len(points) > 1:
        raise ConfigError(f"provider {name!r} is claimed by {' and '.join(map(_describe, points))}; uninstall one")
    return _load(points[0])(options, context)


def _load(point: EntryPoint) -> ProviderFactory:
    try:
        factory = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"provider {point.name!r} of {_describe(point)} cannot be loaded: {error}") from error
    if not callable(factory):
        raise ConfigError(f"provider {point.name!r} of {_describe(point)} is not callable")
    return cast("ProviderFactory", factory)


def _describe(point: EntryPoint) -> str:
    return f"{point.dist.name} ({point.value})" if point.dist else point.value
