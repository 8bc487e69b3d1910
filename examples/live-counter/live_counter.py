"""Counts what happens, per channel and kind, while it happens: reads `pabal.events` with a consumer group of its own.

Needs nothing of Pabal, only a Kafka client: an event is a CloudEvent in Kafka's binary mode, its headers say what
happened, its value is JSON. What is documented: docs/events.md, contracts/.
"""

import argparse
import json
import signal
import sys
import time
from collections import Counter, OrderedDict

from confluent_kafka import Consumer, Message

REMEMBERED_IDS = 100_000
"""An event may be appended twice (a crash between the append and its acknowledgement), soon after each other."""


class LiveCounter:
    """Counts each event once."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def take(self, message: Message) -> None:
        """Count a message, whatever it is."""
        headers = dict(message.headers() or ())
        event_id, kind = headers.get("ce_id"), headers.get("ce_type")
        if not isinstance(event_id, bytes) or not isinstance(kind, bytes) or event_id in self._seen:
            return
        self._seen[event_id] = None
        if len(self._seen) > REMEMBERED_IDS:
            self._seen.popitem(last=False)
        # A receipt names the provider that reported, an event of a delivery its channel. Other types may come.
        value = json.loads(message.value() or b"{}")
        source = value.get("channel") or value.get("provider") or "?"
        self.counts[source, kind.decode().removeprefix("pabal.")] += 1

    def table(self) -> str:
        """The counts as lines."""
        return "\n".join(
            f"{source:<12} {kind:<28} {count:>10,}" for (source, kind), count in sorted(self.counts.items())
        )


def main() -> None:
    """Count until interrupted."""
    parser = argparse.ArgumentParser(description="Counts Pabal's events while they happen.")
    parser.add_argument("--bootstrap", default="127.0.0.1:9092", help="Kafka (default: %(default)s)")
    parser.add_argument("--group", default="live-counter", help="your own consumer group (default: %(default)s)")
    parser.add_argument("--only-new", action="store_true", help="start at the end of the log, not at its beginning")
    given = parser.parse_args()
    consumer = Consumer(
        {
            "bootstrap.servers": given.bootstrap,
            "group.id": given.group,
            "auto.offset.reset": "latest" if given.only_new else "earliest",
        }
    )
    consumer.subscribe(["pabal.events"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _watch(consumer, LiveCounter())
    except KeyboardInterrupt:
        print()
    finally:
        consumer.close()


def _watch(consumer: Consumer, counter: LiveCounter) -> None:
    shown, show_at = "", 0.0
    while True:
        for message in consumer.consume(500, timeout=0.2):
            if (error := message.error()) is not None:
                print(error, file=sys.stderr)
            else:
                counter.take(message)
        if time.monotonic() >= show_at and (table := counter.table()) != shown:
            # On a terminal the table stays where it is; anywhere else every state of it is printed.
            print(f"\x1b[H\x1b[J{table}" if sys.stdout.isatty() else f"{table}\n", flush=True)
            shown, show_at = table, time.monotonic() + 0.5


if __name__ == "__main__":
    main()
