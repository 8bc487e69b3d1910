"""The parts that read, correct, close and redrive dead letters, made from one log. A user takes what it needs."""

from collections.abc import Collection, Mapping

from pabal.broker.port import Admin, Producer, Reader
from pabal.channels.port import Channel
from pabal.clock import Clock
from pabal.dlq.letters.deciding import Decisions
from pabal.dlq.letters.history import Histories
from pabal.dlq.letters.reading import Letters
from pabal.dlq.letters.tails import Tails
from pabal.store.port import Store


class DeadLetters:
    """`letters` reads, `histories` tells, `decisions` corrects and closes; a redrive takes the rest as well."""

    def __init__(
        self,
        *,
        reader: Reader,
        admin: Admin,
        producer: Producer,
        channels: Mapping[str, Channel],
        providers: Mapping[str, Collection[str]],
        clock: Clock,
        store: Store | None = None,
    ) -> None:
        """`channels` are the channels that are switched on here; `providers` names what may carry each of them."""
        self.clock = clock
        self.producer = producer
        self.channels = channels
        self.tails = Tails(reader=reader, admin=admin)
        self.letters = Letters(self.tails, channels=channels.keys())
        self.histories = Histories(self.tails, store=store)
        self.decisions = Decisions(
            self.letters, self.histories, producer=producer, channels=channels, providers=providers, clock=clock
        )
