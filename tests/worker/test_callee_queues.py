from typing import Any

import pytest

from pabal.guard import Callee
from pabal.guard.circuit import CircuitSettings
from pabal.worker.callee_queues import CalleeQueues


def callee(name: str) -> Callee:
    return Callee(
        name, most=1, rate_per_second=None, circuit=CircuitSettings(), random=lambda: 0.0, on_change=lambda *_: None
    )


A, B = callee("a"), callee("b")


@pytest.fixture
def queues() -> CalleeQueues[Any]:
    queues: CalleeQueues[Any] = CalleeQueues()
    for number in range(3):
        queues.join(A, f"a{number}")
        queues.join(B, f"b{number}")
    return queues


def drain(queues: CalleeQueues[Any]) -> list[Any]:
    taken = []
    while (head := queues.next_head()) is not None:
        taken.append(head[1])
        queues.take_head(head[0])
    return taken


def test_no_head_is_given_until_a_queue_is_stirred(queues: CalleeQueues[Any]) -> None:
    assert queues.next_head() is None

    queues.stir(A)

    assert queues.next_head() == (A, "a0")


def test_queues_are_served_in_turn_and_each_in_order(queues: CalleeQueues[Any]) -> None:
    queues.stir_all()

    assert drain(queues) == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert not queues


def test_a_queue_that_has_no_room_after_all_is_left_alone_and_the_others_are_not(queues: CalleeQueues[Any]) -> None:
    queues.stir_all()

    queues.settle(A)

    assert drain(queues) == ["b0", "b1", "b2"]
    assert queues.length(A) == 3


def test_what_has_no_room_is_taken_from_the_end(queues: CalleeQueues[Any]) -> None:
    room = {A: 1, B: 0}

    trimmed = list(queues.trim(lambda each: room[each], limit=99))

    assert trimmed == [(A, "a2"), (A, "a1"), (B, "b2"), (B, "b1"), (B, "b0")]
    assert (queues.length(A), queues.length(B)) == (1, 0)


def test_no_more_are_taken_out_at_once_than_are_asked_for(queues: CalleeQueues[Any]) -> None:
    first = list(queues.trim(lambda _: 0, limit=4))
    second = list(queues.trim(lambda _: 0, limit=4))

    assert first == [(A, "a2"), (A, "a1"), (A, "a0"), (B, "b2")]
    assert second == [(B, "b1"), (B, "b0")]
    assert not queues


def test_stirring_a_queue_that_is_empty_is_harmless() -> None:
    queues: CalleeQueues[Any] = CalleeQueues()

    queues.stir(A)

    assert queues.next_head() is None
