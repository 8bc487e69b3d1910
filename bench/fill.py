"""Lets deliveries wait in a log, as the API would have written them: `python -m bench.fill LOG_URL COUNT HOOK`.

A million over HTTP would take minutes that measure nothing; this uses the same planning and encoding, and appends
a thousand at a time.
"""

import asyncio
import sys
import uuid

import msgspec

from bench.requests import render_body
from pabal.broker.port import NewRecord
from pabal.channels.registry import installed_channels
from pabal.clock import SystemClock
from pabal.codec import delivery_record
from pabal.compose.parts import open_broker
from pabal.config import Settings
from pabal.plan import NotificationRequest, Offer, PlannedNotification, plan_deliveries, request_type

_AT_ONCE = 1000


async def main(url: str, count: int, hook: str) -> None:
    """Append them."""
    settings = Settings()
    clock = SystemClock()
    lives = {name: each.time_to_live for name, each in settings.class_settings().items()}
    offer = Offer(channels=installed_channels(), templates={}, times_to_live=lives)
    broker = await open_broker(url, settings=settings, clock=clock)
    producer = broker.producer(deadline_seconds=60)
    run = uuid.uuid4().hex
    for start in range(0, count, _AT_ONCE):
        records: list[NewRecord] = []
        for number in range(start, min(start + _AT_ONCE, count)):
            request = msgspec.json.decode(render_body(number, hook=hook), type=request_type(NotificationRequest))
            plan = plan_deliveries(
                request, tenant="bench", idempotency_key=f"{run}-{number}", now=clock.now(), offer=offer
            )
            assert isinstance(plan, PlannedNotification), plan
            records.extend(delivery_record(delivery) for delivery in plan.deliveries)
        await producer.append(records)
    await broker.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
