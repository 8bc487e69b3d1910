"""How much a measurement does: in full, or quickly."""

import msgspec


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much is done."""

    rounds: int = 3
    warm_up: int = 2_000
    burst: int = 15_000
    rate: float = 200.0
    steady: int = 4_000
    provider: int = 20_000
    idle_seconds: float = 15.0
    settle_seconds: float = 1.5
    """After the last arrival events are acknowledged, and offsets committed once a second: part of the cost."""
    waiting: tuple[int, int] = (10_000, 1_000_000)
    slices: int = 10


QUICK = Size(
    rounds=1,
    warm_up=50,
    burst=300,
    steady=100,
    provider=300,
    idle_seconds=0.5,
    settle_seconds=0.1,
    waiting=(200, 1_000),
    slices=2,
)
"""For a smoke test: checks that everything runs and nothing is lost; its times mean nothing."""
