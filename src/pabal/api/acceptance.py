"""The way of one notification into the log: plan, encode, append. Single notifications and batches share it."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import msgspec

from pabal.api.messages import AcceptedDelivery, AcceptedNotification, links_of
from pabal.api.problems import (
    RequestRefused,
    log_unavailable,
    refuse_field,
    refuse_flaws,
    refuse_for_now,
    topics_missing,
)
from pabal.api.quotas import Quotas
from pabal.broker.port import NewRecord, Producer
from pabal.clock import Clock
from pabal.codec import delay_record, delivery_record, event_record
from pabal.deadlines import Deadlines
from pabal.errors import LogError, RecordRefused, RenderingUnavailable, TemplateError, UnknownTopic
from pabal.notification import Address, Content, Delivery, DeliveryEvent, event_about
from pabal.plan import (
    MAX_DELIVERIES,
    MAX_EXPANDED_BYTES,
    Flaw,
    NotificationRequest,
    Offer,
    PlannedNotification,
    Recipient,
    plan_deliveries,
    read_recipients,
)
from pabal.rendering import Renders
from pabal.retry import place_wait
from pabal.telemetry.meter import Meter
from pabal.template import TooMuchWork
from pabal.tracing.context import NO_TRACE, Trace

MAX_BODY_BYTES: Final = 256 * 1024
"""Of one notification, on its own or in a batch."""

MAX_RECORD_BYTES: Final = 900 * 1024
"""Below Kafka's default `max.message.bytes` (1 MiB), which a body within its limit can outgrow: 1e15 is written in
4 characters or in 18."""

APPEND_GRACE_SECONDS: Final = 1.0
"""How much longer a request waits than the log's own deadline, so that the log's deadline comes first."""

AT_ONCE: Final = 8
"""Recipients that are read before other requests have their turn: the longest names in other scripts take 2 ms
each."""

logger = logging.getLogger(__name__)


class Prepared(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A notification that was found good: what to append, and what to answer once that is done."""

    records: Sequence[NewRecord]
    accepted: AcceptedNotification
    size: int
    """Bytes of all records' values."""


class Acceptance:
    """What happens to every notification between its decoding and its answer."""

    def __init__(
        self,
        *,
        offer: Offer,
        producer: Producer,
        append_timeout_seconds: float,
        quotas: Quotas,
        clock: Clock,
        apart: Renders | None = None,
        meter: Meter | None = None,
    ) -> None:
        """`append_timeout_seconds` is the producer's own deadline; a request waits a little longer than that.

        `apart` renders templates that are too large for an event loop (None: they are refused).
        """
        self._offer = offer
        self._producer = producer
        self._quotas = quotas
        self._deadlines = Deadlines(append_timeout_seconds + APPEND_GRACE_SECONDS)
        self._clock = clock
        self._apart = apart
        self._meter = meter
        self._took = meter.histogram("pabal_append_duration_seconds") if meter else None

    async def prepare(
        self,
        request: NotificationRequest,
        *,
        tenant: str,
        idempotency_key: str,
        trace: Trace = NO_TRACE,
        root: str = "$",
    ) -> Prepared:
        """Plan and encode. `root` is where the request stands in the body.

        Raises RequestRefused: every flaw; or rendering_unavailable.
        """
        many = AT_ONCE < len(request.to) <= MAX_DELIVERIES
        recipients = await self._recipients(request.to) if many else None
        plan_it = partial(
            plan_deliveries,
            request,
            recipients=recipients,
            tenant=tenant,
            idempotency_key=idempotency_key,
            now=self._clock.now(),
            offer=self._offer,
            traceparent=trace.traceparent,
            tracestate=trace.tracestate,
        )
        try:
            plan = plan_it()
        except TooMuchWork as error:
            plan = plan_it(rendered=await self._render_apart(request, error))
        if not isinstance(plan, PlannedNotification):
            raise refuse_flaws(plan, root=root)
        records, size = [], 0
        for delivery in plan.deliveries:
            for record in _records(delivery):
                weight = len(record.value or b"")
                size += weight
                if weight > MAX_RECORD_BYTES or size > MAX_EXPANDED_BYTES:
                    raise _too_large(len(plan.deliveries), root=root)
                records.append(record)
        return Prepared(records=records, accepted=_accepted(plan), size=size)

    async def _recipients(self, to: Sequence[Recipient]) -> Sequence[Address | Flaw]:
        """The recipients' addresses, or what is wrong with them. Other requests have their turn in between."""
        read: list[Address | Flaw] = []
        for each in read_recipients(to, channels=self._offer.channels):
            read.append(each)
            if len(read) % AT_ONCE == 0:
                await asyncio.sleep(0)
        return read

    async def _render_apart(self, request: NotificationRequest, error: TooMuchWork) -> Content | TemplateError:
        """The content of a template that is too large to be rendered in the event loop.

        Raises RequestRefused: rendering_unavailable.
        """
        if self._apart is None:
            return error
        assert request.template is not None
        try:
            return await self._apart.render(self._offer.templates[request.template], request.data or {})
        except TemplateError as failure:
            return failure
        except RenderingUnavailable as failure:
            logger.warning("not accepted: %s", failure)
            raise refuse_for_now(
                "rendering_unavailable", "the template is a large one, and none can be rendered now; nothing was taken"
            ) from None

    def admit(self, tenant: str, *, deliveries: int) -> None:
        """Count against the tenant's quota. Raises RequestRefused: quota_exceeded, with the time to come back."""
        wait_seconds = self._quotas.take(tenant, deliveries, now_seconds=self._clock.boot_seconds())
        if wait_seconds > 0:
            seconds = math.ceil(wait_seconds)
            raise RequestRefused(
                "quota_exceeded",
                f"the tenant's quota leaves no room for this (deliveries: {deliveries}); it does in {seconds} s",
                headers=[(b"retry-after", b"%d" % seconds)],
            )

    async def append(self, records: Sequence[NewRecord]) -> None:
        """Return once every record is acknowledged.

        Raises:
            RequestRefused: log_unavailable, topics_missing.
            RecordRefused: the log will never take some of the records; of the others nothing is known.
        """
        began = time.monotonic()
        try:
            with self._deadlines.start():
                await self._producer.append(records)
            if self._took is not None:
                self._took.observe(time.monotonic() - began)
        except RecordRefused:
            raise
        except UnknownTopic as error:
            logger.warning("not accepted: %s", error)
            raise topics_missing(str(error)) from None
        except (LogError, TimeoutError) as error:
            logger.warning("%d records in doubt: %s", len(records), str(error) or "the log's own deadline has passed")
            raise log_unavailable(
                "the log did not acknowledge in time, so it is not known whether the request was taken; "
                "send it again with the same idempotency key, and nothing is sent twice"
            ) from None

    def count(self, accepted: AcceptedNotification) -> None:
        """Count a notification whose records are acknowledged."""
        if self._meter is not None:
            for delivery in accepted.deliveries:
                self._meter.counter("pabal_accepted_total", delivery.channel, delivery.class_).add()


def _accepted(plan: PlannedNotification) -> AcceptedNotification:
    return AcceptedNotification(
        id=plan.notification_id,
        deliveries=tuple(
            AcceptedDelivery(id=delivery.id, channel=delivery.channel, address=delivery.address, class_=delivery.class_)
            for delivery in plan.deliveries
        ),
        links=links_of(plan.notification_id),
    )


def _records(delivery: Delivery) -> Sequence[NewRecord]:
    """What is appended for a delivery. A scheduled delivery has an event too, so that it can be looked up before it is
    due."""
    if delivery.send_at is None:
        return (delivery_record(delivery),)
    topic, wait = place_wait(due=delivery.send_at, now=delivery.accepted_at, class_=delivery.class_)
    return delay_record(delivery, topic=topic, wait=wait), event_record(_scheduled(delivery))


def _scheduled(delivery: Delivery) -> DeliveryEvent:
    event = event_about(
        delivery, "scheduled", attempt=delivery.attempt, at=delivery.accepted_at, traceparent=delivery.traceparent
    )
    return msgspec.structs.replace(event, due=delivery.send_at, expires_at=delivery.expires_at, tags=delivery.tags)


def _too_large(deliveries: int, *, root: str) -> RequestRefused:
    message = (
        f"{deliveries} deliveries that each carry this content are more than the log takes in one request "
        f"({MAX_EXPANDED_BYTES} bytes in all, {MAX_RECORD_BYTES} each); put the text into a template, of which "
        "every delivery carries the name and the data alone"
    )
    return refuse_field("expansion_too_large", path=root, message=message)
