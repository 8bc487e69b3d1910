"""Records that a reader passes over because they cannot be read: counted, and said without filling the log."""

import logging
from typing import Final

from pabal.broker.port import Record

logger = logging.getLogger(__name__)

SAID_ONE_BY_ONE: Final = 8
"""How many records are each named in a line. Then only each doubling is, so that a flood costs a few dozen lines."""


class Unreadable:
    """The records that one reader cannot read. `reader` names it in the lines, in a word or two.

    A record that the reader comes to again (it reads a topic whole from time to time) is counted again.
    """

    def __init__(self, reader: str) -> None:
        self.count = 0
        self._reader = reader

    def note(self, record: Record, why: object) -> None:
        """Count this record, and say why it cannot be read."""
        self.count += 1
        if self.count <= SAID_ONE_BY_ONE or self.count.bit_count() == 1:
            place = f"{record.topic}/{record.partition}@{record.offset}"
            logger.warning("%s: %s cannot be read (%d so far): %s", self._reader, place, self.count, why)
