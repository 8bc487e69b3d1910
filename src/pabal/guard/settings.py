"""The table `[guard]` of the configuration."""

from typing import Annotated

import msgspec


class GuardSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[guard]`. A circuit opens when at least `minimum_calls` ended within `window_seconds` and
    `failure_ratio` of them failed. `host_rate_per_second`: calls of one destination host (None: any number).

    A class's consumption stops when at least `brake_records` within a minute cannot be read, and they are at least
    `brake_ratio` of all.
    """

    failure_ratio: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    minimum_calls: Annotated[int, msgspec.Meta(ge=1)] = 10
    window_seconds: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    host_rate_per_second: Annotated[float, msgspec.Meta(gt=0)] | None = None
    brake_ratio: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    brake_records: Annotated[int, msgspec.Meta(ge=1)] = 100


DEFAULT_GUARD = GuardSettings()
