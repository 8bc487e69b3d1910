"""What installed packages bring, found by entry points: providers and channels, ours and third parties' alike."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pabal.errors import ConfigError


def find_entry_points(group: str) -> Mapping[str, Sequence[EntryPoint]]:
    """What a group holds, by name, in the order of the names. Several under one name: several packages claim it."""
    found: dict[str, dict[str, EntryPoint]] = {}
    for point in entry_points(group=group):
        # One package that is on the path twice (a checkout and a wheel) is still one claim.
        found.setdefault(point.name, {})[point.value] = point
    return {name: tuple(found[name].values()) for name in sorted(found)}


def load_entry_point(points: Sequence[EntryPoint], *, what: str) -> Callable[..., Any]:
    """The callable behind a name. `points` are all claims of the name, at least one; `what` is for errors (`provider`).

    Raises:
        ConfigError: two packages claim the name, the package cannot be loaded, or what it names is not callable.
    """
    point, *others = points
    if others:
        claims = " and ".join(map(_describe, points))
        raise ConfigError(f"{what} {point.name!r} is claimed by {claims}; uninstall one")
    try:
        loaded: Any = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{what} {point.name!r} of {_describe(point)} cannot be loaded: {error}") from error
    if not callable(loaded):
        raise ConfigError(f"{what} {point.name!r} of {_describe(point)} is not callable")
    return loaded  # type: ignore[no-any-return]


def _describe(point: EntryPoint) -> str:
    return f"{point.dist.name} ({point.value})" if point.dist else point.value
