"""A delivery report that cannot be understood answers its append all the same."""

import asyncio
from collections.abc import Sequence

from confluent_kafka import KafkaError, Message

from pabal.broker.kafka.producer import _Append
from pabal.broker.port import NewRecord, Position
from pabal.errors import LogUnavailable


async def test_a_report_whose_record_cannot_be_measured_ends_the_append_as_in_doubt() -> None:
    answer: asyncio.Future[Sequence[Position]] = asyncio.get_running_loop().create_future()
    # Half a surrogate pair has no UTF-8.
    append = _Append([NewRecord(topic="t", key=b"k", value=b"", headers=(("\ud800", b""),))], answer, batch_bytes=1)

    was_last = append.report(0, KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), Message("t", partition=0, offset=0))
    append.settle()

    assert was_last
    assert isinstance(answer.exception(), LogUnavailable)
