from random import Random

from hypothesis import given
from hypothesis import strategies as st

from pabal.progress import Progress


def test_nothing_is_committable_before_something_is_done() -> None:
    progress = Progress()

    progress.receive([7, 8])

    assert progress.next_offset is None
    assert progress.to_commit() is None
    assert len(progress) == 2


def test_only_the_contiguous_prefix_counts() -> None:
    progress = Progress()
    progress.receive([7, 8, 9])

    progress.done(8)
    assert progress.to_commit() is None
    assert (len(progress), progress.undone) == (3, 2)

    progress.done(7)
    assert progress.to_commit() == 9
    assert (len(progress), progress.undone) == (1, 1)


def test_gaps_in_the_offsets_do_not_hold_progress_up() -> None:
    progress = Progress()
    progress.receive([3, 10])

    progress.done(3)
    progress.done(10)

    assert progress.to_commit() == 11


def test_an_offset_is_committed_once() -> None:
    progress = Progress()
    progress.receive([0])
    progress.done(0)

    progress.committed(1)

    assert progress.to_commit() is None
    assert progress.next_offset == 1


@given(st.lists(st.integers(0, 10_000), unique=True, max_size=50).map(sorted), st.randoms(use_true_random=False))
def test_whatever_the_order_of_ends_no_unfinished_record_lies_below_the_commit(
    offsets: list[int], random: Random
) -> None:
    progress = Progress()
    progress.receive(offsets)
    order = list(offsets)
    random.shuffle(order)

    unfinished = set(offsets)
    for offset in order:
        progress.done(offset)
        unfinished.remove(offset)
        committable = progress.to_commit() or 0
        assert all(offset >= committable for offset in unfinished)

    assert progress.next_offset == (offsets[-1] + 1 if offsets else None)


def test_what_is_passed_over_counts_once_all_before_it_is_done() -> None:
    progress = Progress()
    progress.receive([3, 4])
    progress.done(3)

    progress.pass_over(10)

    assert progress.next_offset == 4
    progress.done(4)
    assert progress.next_offset == 10
    progress.receive([10])
    progress.done(10)
    assert progress.next_offset == 11
