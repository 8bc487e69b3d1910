"""The table `[guard]` of the configuration."""

from typing import Annotated

import msgspec


class GuardSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[guard]`. A circuit opens when at least `minimum_calls` ended within `window_seconds` and
    `failure_ratio` of them failed. `host_rate_per_second`: calls of one destination host (None: any number).

    A class's consumption stops when at least `brake_records` within a minute cannot be read, and they are at least
    `brake_ratio` of all.
    """

    failure_ratio: Annotated[float, msgspec.Meta(ge=0.001, le=1)] = 0.5
    minimum_calls: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10
    window_seconds: Annotated[float, msgspec.Meta(ge=0.001, le=86400)] = 30.0
    host_rate_per_second: Annotated[float, msgspec.Meta(ge=1e-4, le=1e6)] | None = None
    brake_ratio: Annotated[float, msgspec.Meta(ge=0.001, le=1)] = 0.5
    brake_records: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 100


DEFAULT_GUARD = GuardSettings()
