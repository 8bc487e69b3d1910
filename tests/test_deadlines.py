"""Deadlines that share a timer end a task as `asyncio.timeout` would."""

import asyncio

import pytest

from pabal.deadlines import Deadlines

SHORT_SECONDS = 0.01


async def test_what_takes_too_long_is_ended_with_a_timeout() -> None:
    deadlines = Deadlines(SHORT_SECONDS)

    with pytest.raises(TimeoutError), deadlines.start():
        await asyncio.Event().wait()

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_ends_in_time_is_let_alone_and_gives_its_answer() -> None:
    deadlines = Deadlines(SHORT_SECONDS)

    with deadlines.start():
        answer = await asyncio.sleep(0, "in time")

    # Had it been left running, its end would strike here, in the same task.
    with pytest.raises(TimeoutError), deadlines.start():
        await asyncio.Event().wait()
    assert answer == "in time"


async def test_each_has_its_own_deadline_and_they_end_in_order() -> None:
    deadlines = Deadlines(SHORT_SECONDS)
    ended: list[int] = []

    async def wait(number: int) -> None:
        try:
            with deadlines.start():
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append(number)

    await asyncio.gather(*(wait(number) for number in range(50)))

    assert ended == [*range(50)]


async def test_one_that_begins_later_ends_later() -> None:
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(5 * SHORT_SECONDS)
    began: list[float] = []
    ended: list[float] = []

    async def wait() -> None:
        began.append(loop.time())
        with pytest.raises(TimeoutError), deadlines.start():
            await asyncio.Event().wait()
        ended.append(loop.time())

    first = asyncio.create_task(wait())
    with pytest.raises(TimeoutError), Deadlines(SHORT_SECONDS).start():
        await asyncio.Event().wait()
    await asyncio.gather(first, wait())

    # Never early; a loop's clock ticks in milliseconds.
    assert all(end - start >= 5 * SHORT_SECONDS - 0.002 for start, end in zip(began, ended, strict=True))


async def test_a_cancellation_by_somebody_else_is_one() -> None:
    deadlines = Deadlines(60)
    waiting = asyncio.Event()

    async def wait() -> None:
        with deadlines.start():
            waiting.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await waiting.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_by_both_it_is_cancelled() -> None:
    deadlines = Deadlines(SHORT_SECONDS)

    async def wait() -> None:
        with deadlines.start():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                asyncio.current_task().cancel()  # type: ignore[union-attr]
                raise

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(wait())


async def test_an_error_of_its_own_is_let_through() -> None:
    with pytest.raises(ValueError, match="its own"), Deadlines(60).start():
        raise ValueError("its own")


async def test_one_within_another_ends_by_the_shorter() -> None:
    with Deadlines(60).start(), pytest.raises(TimeoutError), Deadlines(SHORT_SECONDS).start():
        await asyncio.Event().wait()


async def test_outside_a_task_there_is_nothing_to_cancel() -> None:
    answered = asyncio.get_running_loop().create_future()

    def start() -> None:
        try:
            Deadlines(60).start()
        except RuntimeError as error:
            answered.set_result(str(error))

    asyncio.get_running_loop().call_soon(start)

    assert "this is none" in await answered
