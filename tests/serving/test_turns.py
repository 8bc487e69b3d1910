"""Work that comes all at once is begun a few pieces per turn of the loop."""

import asyncio

from pabal.serving.turns import Turns


async def test_a_crowd_is_begun_a_few_at_a_time_in_order() -> None:
    turns, begun, per_turn = Turns(most=3), list[int](), list[int]()

    for number in range(8):
        turns.begin(lambda number=number: begun.append(number))  # type: ignore[misc]
    while len(begun) < 8:
        per_turn.append(len(begun))
        await asyncio.sleep(0)

    assert begun == list(range(8))
    assert per_turn == [3, 6]


async def test_what_comes_alone_is_begun_at_once() -> None:
    turns, begun = Turns(most=2), list[int]()

    for number in range(3):
        turns.begin(lambda number=number: begun.append(number))  # type: ignore[misc]
        assert begun[-1] == number
        await asyncio.sleep(0)


async def test_what_comes_while_others_wait_is_begun_after_them() -> None:
    turns, begun = Turns(most=1), list[str]()

    turns.begin(lambda: begun.append("first"))
    turns.begin(lambda: begun.append("second"))
    await asyncio.sleep(0)
    turns.begin(lambda: begun.append("third"))
    await asyncio.sleep(0)

    assert begun == ["first", "second", "third"]
