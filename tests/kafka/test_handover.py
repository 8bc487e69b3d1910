"""The buffer between a consumer's thread and its polls; no Kafka needed."""

from pabal.broker.kafka.handover import Handover
from pabal.broker.port import Record, TopicPartition

ZERO, ONE = TopicPartition("t", 0), TopicPartition("t", 1)


def records(partition: int, *offsets: int) -> list[Record]:
    return [
        Record(topic="t", partition=partition, offset=offset, timestamp=0.0, key=None, value=b"") for offset in offsets
    ]


def where(taken: object) -> list[tuple[int, int]]:
    assert isinstance(taken, list)
    return [(each.partition, each.offset) for each in taken]


def test_records_come_in_order_across_batches_up_to_the_limit() -> None:
    handover = Handover()
    handover.put(records(0, 0, 1, 2))
    handover.put(records(0, 3, 4))

    assert where(handover.take(2)) == [(0, 0), (0, 1)]
    assert where(handover.take(2)) == [(0, 2), (0, 3)]
    assert where(handover.take(2)) == [(0, 4)]
    assert where(handover.take(2)) == []
    assert not handover.has_records()


def test_a_pause_holds_back_what_waits_and_what_comes() -> None:
    handover = Handover()
    handover.put(records(0, 0) + records(1, 0) + records(0, 1))

    handover.pause([ZERO])
    handover.put(records(0, 2) + records(1, 1))

    assert where(handover.take(10)) == [(1, 0), (1, 1)]


def test_what_a_pause_held_back_comes_first_and_in_order() -> None:
    handover = Handover()
    handover.put(records(0, 0, 1))
    handover.pause([ZERO])
    handover.put(records(0, 2))
    handover.put(records(1, 0))

    handover.resume([ZERO])
    handover.put(records(0, 3))

    assert where(handover.take(10)) == [(0, 0), (0, 1), (0, 2), (1, 0), (0, 3)]


def test_pausing_again_before_anything_was_taken_changes_nothing() -> None:
    handover = Handover()
    handover.put(records(0, 0, 1))
    handover.pause([ZERO])
    handover.resume([ZERO])

    handover.pause([ZERO])
    handover.pause([ZERO])
    handover.put(records(0, 2))
    handover.resume([ZERO])
    handover.resume([ZERO, ONE])

    assert where(handover.take(10)) == [(0, 0), (0, 1), (0, 2)]


def test_dropping_a_partition_forgets_its_records_and_its_pause() -> None:
    handover = Handover()
    handover.put(records(0, 0) + records(1, 0))
    handover.pause([ZERO])
    handover.put(records(0, 1))

    handover.drop([ZERO])
    handover.put(records(0, 5))

    assert where(handover.take(10)) == [(1, 0), (0, 5)]


def test_what_left_the_buffer_is_settled_whichever_way_it_went() -> None:
    handover = Handover()
    handover.put(records(0, 0, 1, 2) + records(1, 0))

    handover.pause([ZERO])
    held = handover.settled
    handover.resume([ZERO])
    back = handover.settled
    handover.take(2)
    taken = handover.settled
    handover.drop([ZERO, ONE])

    assert (held, back, taken, handover.settled) == (3, 0, 2, 4)


def test_settled_does_not_count_what_was_held_and_dropped_twice() -> None:
    handover = Handover()
    handover.put(records(0, 0, 1))
    handover.pause([ZERO])

    handover.drop([ZERO])

    assert handover.settled == 2
