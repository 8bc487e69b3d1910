"""Waiting for a condition, never for a time."""

import asyncio
from collections.abc import Callable


async def eventually(predicate: Callable[[], object], *, within_seconds: float = 5.0) -> None:
    """Return once `predicate()` is true; fail with its source when it is not within the deadline."""
    deadline = asyncio.get_running_loop().time() + within_seconds
    while not predicate():
        assert asyncio.get_running_loop().time() < deadline, f"not true within {within_seconds} s: {predicate}"
        await asyncio.sleep(0.005)
