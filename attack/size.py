"""How much of each attack: a short form for CI, and the full one."""

import msgspec


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of every loop: counts, megabytes, and seconds that connections are held."""

    connections: int
    head_mb: int
    bodies_per_operation: int
    requests: int
    hold_seconds: float


QUICK = Size(connections=1200, head_mb=8, bodies_per_operation=60, requests=60, hold_seconds=1.0)
FULL = Size(connections=1200, head_mb=64, bodies_per_operation=10_000, requests=500, hold_seconds=20.0)
