from typing import Any

import pytest

from pabal.guard import Callee
from pabal.guard.circuit import CircuitSettings
from pabal.worker.lines import Lines


def callee(name: str) -> Callee:
    return Callee(
        name, most=1, rate_per_second=None, circuit=CircuitSettings(), random=lambda: 0.0, on_change=lambda *_: None
    )


A, B = callee("a"), callee("b")


@pytest.fixture
def lines() -> Lines[Any]:
    lines: Lines[Any] = Lines()
    for number in range(3):
        lines.join(A, f"a{number}")
        lines.join(B, f"b{number}")
    return lines


def drain(lines: Lines[Any]) -> list[Any]:
    taken = []
    while (head := lines.next_head()) is not None:
        taken.append(head[1])
        lines.take_head(head[0])
    return taken


def test_nobody_is_looked_at_until_a_line_is_stirred(lines: Lines[Any]) -> None:
    assert lines.next_head() is None

    lines.stir(A)

    assert lines.next_head() == (A, "a0")


def test_lines_are_served_in_turn_and_each_in_order(lines: Lines[Any]) -> None:
    lines.stir_all()

    assert drain(lines) == ["a0", "b0", "a1", "b1", "a2", "b2"]
    assert not lines


def test_a_line_that_has_no_room_after_all_is_left_alone_and_the_others_are_not(lines: Lines[Any]) -> None:
    lines.stir_all()

    lines.settle(A)

    assert drain(lines) == ["b0", "b1", "b2"]
    assert lines.length(A) == 3


def test_what_has_no_room_is_taken_from_the_end(lines: Lines[Any]) -> None:
    room = {A: 1, B: 0}

    trimmed = list(lines.trim(lambda each: room[each], limit=99))

    assert trimmed == [(A, "a2"), (A, "a1"), (B, "b2"), (B, "b1"), (B, "b0")]
    assert (lines.length(A), lines.length(B)) == (1, 0)


def test_no_more_are_taken_out_at_once_than_are_asked_for(lines: Lines[Any]) -> None:
    first = list(lines.trim(lambda _: 0, limit=4))
    second = list(lines.trim(lambda _: 0, limit=4))

    assert first == [(A, "a2"), (A, "a1"), (A, "a0"), (B, "b2")]
    assert second == [(B, "b1"), (B, "b0")]
    assert not lines


def test_stirring_a_line_that_nobody_stands_in_is_harmless() -> None:
    lines: Lines[Any] = Lines()

    lines.stir(A)

    assert lines.next_head() is None
