"""The body of a process that a test starts and kills: it appends, or it is a member of a group.

An adapter's test directory holds a script of a few lines that opens its log and calls `run`. The process
writes one line per fact to standard output, flushed, so that what was written had happened::

    append TOPIC             "appended OFFSET VALUE"     after each acknowledgement, for ever
    member GROUP TOPIC       "assigned COUNT"            whenever partitions were assigned
                             "record OFFSET VALUE"       for each record handed over; nothing is committed
"""

import itertools
from collections.abc import Collection, Mapping, Sequence

from pabal.broker.port import Broker, NewRecord, TopicPartition


async def run(broker: Broker, arguments: Sequence[str]) -> None:
    """Do what `arguments` say until killed."""
    match arguments:
        case ["append", topic]:
            await _append(broker, topic)
        case ["member", group, topic]:
            await _be_member(broker, group, topic)
        case _:
            raise SystemExit(f"append TOPIC, or member GROUP TOPIC; not {' '.join(arguments)}")


async def _append(broker: Broker, topic: str) -> None:
    producer = broker.producer()
    for number in itertools.count():
        record = NewRecord(topic=topic, key=None, value=str(number).encode(), partition=0)
        [position] = await producer.append([record])
        _say(f"appended {position.offset} {number}")


class _Member:
    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        _say(f"assigned {len(partitions)}")

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {}

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        return


async def _be_member(broker: Broker, group: str, topic: str) -> None:
    consumer = broker.consumer(group, [topic], _Member())
    while True:
        for record in await consumer.poll(limit=100, timeout_seconds=60):
            _say(f"record {record.offset} {(record.value or b'').decode()}")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - the parent reads it
