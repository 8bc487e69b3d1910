"""Work off the loop, and a loop that waits for it a moment."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from pabal.database_thread import DatabaseThread


@pytest.fixture
async def thread() -> AsyncIterator[DatabaseThread]:
    thread = DatabaseThread("test")
    yield thread
    await thread.stop(lambda: None)


async def test_the_result_comes_back(thread: DatabaseThread) -> None:
    assert await thread.submit(lambda: 42) == 42


async def test_work_is_done_in_one_other_thread_in_order(thread: DatabaseThread) -> None:
    names: list[tuple[int, str]] = []
    for number in range(5):
        thread.submit(lambda number=number: names.append((number, threading.current_thread().name)))  # type: ignore[misc]

    await thread.submit(lambda: None)

    assert names == [(number, "test") for number in range(5)]


async def test_an_error_is_raised_where_it_is_awaited(thread: DatabaseThread) -> None:
    with pytest.raises(ZeroDivisionError):
        await thread.submit(lambda: 1 // 0)


async def test_work_that_takes_longer_does_not_hold_the_loop(thread: DatabaseThread) -> None:
    may_end = threading.Event()

    late = thread.submit(may_end.wait)
    was_done = late.done()
    may_end.set()

    assert not was_done
    assert await asyncio.wait_for(late, 5)


async def test_an_answer_nobody_waits_for_any_more_is_dropped(thread: DatabaseThread) -> None:
    may_end = threading.Event()
    late = thread.submit(may_end.wait)

    late.cancel()
    may_end.set()

    assert await thread.submit(lambda: "next") == "next"


async def test_stopping_twice_is_harmless_and_calls_the_last_work_once() -> None:
    thread = DatabaseThread("test")
    calls: list[str] = []

    await thread.stop(lambda: calls.append("first"))
    await thread.stop(lambda: calls.append("second"))

    assert calls == ["first"]
