"""Waiting for a condition, never for a time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(predicate: Callable[[], object], *, within_seconds: float = 5.0) -> None:
    """Return once `predicate()` is true; fail with its source when it is not within the deadline."""
    deadline = asyncio.get_running_loop().time() + within_seconds
    while not predicate():
        assert asyncio.get_running_loop().time() < deadline, f"not true within {within_seconds} s: {predicate}"
        await asyncio.sleep(0.005)


async def eventually_told(ask: Callable[[], Awaitable[T]], *, within_seconds: float = 20.0) -> T:
    """What `ask()` answers once that is true; fail with its last answer when it is not within the deadline."""
    deadline = asyncio.get_running_loop().time() + within_seconds
    while not (answer := await ask()):
        assert asyncio.get_running_loop().time() < deadline, f"not within {within_seconds} s, but {answer!r}: {ask}"
        await asyncio.sleep(0.02)
    return answer
