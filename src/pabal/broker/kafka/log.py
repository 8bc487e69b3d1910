"""librdkafka's log lines: the same complaint once in a while, not at every attempt.

librdkafka keeps back what it has just said, but begins anew whenever it goes back to the bootstrap servers, and while
no broker answers it does that some forty times a second (librdkafka 2.11 and later, KIP-899). A worker has half a dozen
clients that all say the same.
"""

import logging
import re
from typing import Final

REPEAT_SECONDS: Final = 30.0
"""How often one complaint is told; librdkafka's own figure for repeated connection errors."""

MOST_REMEMBERED: Final = 200
"""So many different complaints are told apart; then the memory begins anew, and at worst a line is told again early."""

_LIBRDKAFKA: Final = "%s [%s] %s"
"""The format under which confluent-kafka logs librdkafka's facility, client and text."""

_VARYING: Final = re.compile(r"\(after \d+ms in state \w+|, \d+ identical error\(s\) suppressed")


class OnceInAWhile(logging.Filter):
    """Lets a line of librdkafka pass if no client said the same within `REPEAT_SECONDS`; says how many it kept back.

    Lines of Pabal's own always pass. Called from librdkafka's threads too, one at a time (they hold the GIL); two that
    are told instead of one would be no harm.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is told."""
        if record.msg != _LIBRDKAFKA or not isinstance(record.args, tuple) or len(record.args) != 3:
            return True
        facility, _client, text = (str(each) for each in record.args)
        complaint = (facility, _VARYING.sub("", text))
        told_at, kept_back = self._told.get(complaint, (record.created - REPEAT_SECONDS, 0))
        if 0 <= record.created - told_at < REPEAT_SECONDS:
            self._told[complaint] = (told_at, kept_back + 1)
            return False
        if len(self._told) >= MOST_REMEMBERED:
            self._told.clear()
        self._told[complaint] = (record.created, 0)
        if kept_back:
            record.msg, record.args = f"{_LIBRDKAFKA} (and %s times before)", (*record.args, kept_back)
        return True
