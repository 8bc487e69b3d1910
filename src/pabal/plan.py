"""From what a caller asked to the deliveries to make: the rules of acceptance, and every flaw at once. Pure.

A delivery is one recipient on one channel. Equal recipients collapse; ids are derived from tenant, idempotency key
and canonical address, so planning the same request twice names the same deliveries.
"""

import functools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Generic, Literal
from uuid import UUID

import msgspec
from typing_extensions import TypeVar

from pabal.channels.content import content_type, installed_parts, requested_content_type, with_content
from pabal.channels.port import Channel
from pabal.errors import InvalidAddress, TemplateError
from pabal.notification import (
    Address,
    Content,
    Delivery,
    Fact,
    NotificationClass,
    TemplateRef,
    delivery_id,
    notification_id,
)
from pabal.sandbox.budget import WORK_HERE
from pabal.template import Template, TooMuchWork

MAX_DELIVERIES: Final = 500
"""Recipients of one notification. A larger audience is several requests."""

MAX_EXPANDED_BYTES: Final = 4 * 1024 * 1024
"""What one notification may weigh in the log, once every delivery carries its content."""

MAX_SEND_AHEAD: Final = timedelta(days=30)
"""How far ahead `send_at` may lie: the delay line's promise."""

MAX_TIME_TO_LIVE: Final = timedelta(days=7)
"""The longest a delivery lives after acceptance (or `send_at`). The deliveries topics keep records for 8 days, so
nothing that is still useful is deleted unread."""

MAX_NESTING: Final = 100
"""Levels of arrays and objects in free data. What one process accepts every other must be able to read, and JSON
readers end at their recursion limits."""


class _Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Base of request bodies. An unknown field is an error here; in a record it is passed over, as a newer version may
    have written it."""


class Recipient(_Asked, frozen=True, kw_only=True):
    """One recipient: an address on a channel."""

    channel: Annotated[str, msgspec.Meta(description="A channel this installation has, such as `email` or `webhook`.")]
    address: Annotated[
        str,
        msgspec.Meta(min_length=1, max_length=2048, description="A mailbox for `email`, a URL for `webhook`."),
    ]


class RequestedContent(_Asked, frozen=True, kw_only=True):
    """What to say: generic parts that every channel can carry, and what single channels say instead."""

    title: Annotated[str | None, msgspec.Meta(description="A subject or headline.")] = None
    body: Annotated[str | None, msgspec.Meta(description="The text.")] = None
    data: Annotated[
        dict[str, Any] | None, msgspec.Meta(description="Facts for machines; webhooks carry them as they are.")
    ] = None


AskedT = TypeVar("AskedT", bound=RequestedContent, default=RequestedContent)
"""What a request's content is read as: with the parts of the channels that are installed."""


class NotificationRequest(_Asked, Generic[AskedT], frozen=True, kw_only=True, rename={"class_": "class"}):
    """Someone is to be notified: who, how urgently, and of what. Exactly one of `content` and `template` is given."""

    to: Annotated[
        tuple[Recipient, ...],
        msgspec.Meta(min_length=1, description="At most 500. One address twice on one channel is one delivery."),
    ]
    class_: Annotated[NotificationClass, msgspec.Meta(description="How urgent: three bells, two, one.")] = "standard"
    content: Annotated[AskedT | None, msgspec.Meta(description="What to say, in full.")] = None
    template: Annotated[
        str | None, msgspec.Meta(description="The name of a template of this installation, instead of `content`.")
    ] = None
    data: Annotated[dict[str, Any] | None, msgspec.Meta(description="What the template is rendered with.")] = None
    order_key: Annotated[
        Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None,
        msgspec.Meta(
            description="Deliveries of one order key are sent one at a time, in order. Default: the address for "
            "`email`, none for `webhook`."
        ),
    ] = None
    send_at: Annotated[
        Annotated[datetime, msgspec.Meta(tz=True)] | None,
        msgspec.Meta(description="Not before this time; at most 30 days ahead. A time gone by means now."),
    ] = None
    expires_at: Annotated[
        Annotated[datetime, msgspec.Meta(tz=True)] | None,
        msgspec.Meta(
            description="Not sent after this time. Default: the class's time to live. At most 7 days after "
            "acceptance (or `send_at`); a later time is brought forward to that."
        ),
    ] = None
    tags: Annotated[
        tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=64)], ...],
        msgspec.Meta(max_length=20, description="Words to find the notification by."),
    ] = ()


@functools.cache
def content_request_type() -> type[RequestedContent]:
    """`RequestedContent` with the part of every installed channel."""
    return requested_content_type(RequestedContent, part_base=_Asked)


RequestT = TypeVar("RequestT", bound=NotificationRequest)


def request_type(model: type[RequestT]) -> type[RequestT]:
    """`NotificationRequest`, or a request like it, for a decoder: its content has every part."""
    return with_content(model, content_request_type())


FlawCode = Literal[
    "content_or_template",
    "data_without_template",
    "invalid_address",
    "invalid_expires_at",
    "invalid_send_at",
    "nested_too_deeply",
    "template_failed",
    "too_many_deliveries",
    "unknown_channel",
    "unknown_template",
    "unusable_content",
]
"""The rules that a well-formed request can break. Stable: callers write code against them."""


class Flaw(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One rule broken, and where (`$.to[1].address`)."""

    path: str
    code: FlawCode
    message: str


class PlannedNotification(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a request comes to: at least one delivery, in the order asked, none twice."""

    notification_id: UUID
    deliveries: tuple[Delivery, ...]


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """What an installation offers: its channels and templates, and how long each class stays useful."""

    channels: Mapping[str, Channel]
    templates: Mapping[str, Template]
    times_to_live: Mapping[NotificationClass, timedelta]


def plan_deliveries(
    request: NotificationRequest,
    *,
    tenant: str,
    idempotency_key: str,
    now: datetime,
    offer: Offer,
    traceparent: str | None = None,
    tracestate: str | None = None,
    recipients: Sequence[Address | Flaw] | None = None,
    rendered: Content | TemplateError | None = None,
) -> PlannedNotification | tuple[Flaw, ...]:
    """The deliveries of a request, or everything that is wrong with it (at least one flaw).

    `traceparent` and `tracestate` are the trace that the request belongs to. `recipients` is the result of
    `read_recipients`, where the caller has read them step by step. `rendered` is the result of the template, where the
    caller has rendered it.

    Raises TooMuchWork when the template is too large to be rendered here. It is rendered apart, and planned again.
    """
    if len(request.to) > MAX_DELIVERIES:
        # This flaw alone: to look at thousands of addresses for more would cost what the cap is there to save.
        return (_too_many(len(request.to)),)
    read = read_recipients(request.to, channels=offer.channels) if recipients is None else recipients
    flaws: list[Flaw] = []
    once: dict[Address, None] = {}
    for each in read:
        if isinstance(each, Flaw):
            flaws.append(each)
        else:
            once[each] = None
    said, template = _read_content(request, recipients=once, offer=offer, rendered=rendered, flaws=flaws)
    send_at, expires_at = _read_times(request, now=now, time_to_live=offer.times_to_live[request.class_], flaws=flaws)
    if flaws:
        return tuple(flaws)
    notification = notification_id(tenant=tenant, idempotency_key=idempotency_key)
    deliveries = tuple(
        Delivery(
            id=delivery_id(notification, to),
            notification_id=notification,
            tenant=tenant,
            channel=to.channel,
            address=to.address,
            class_=request.class_,
            accepted_at=now,
            expires_at=expires_at,
            content=said if template is None else None,
            template=template,
            order_key=request.order_key or offer.channels[to.channel].order_key(to.address),
            send_at=send_at,
            tags=request.tags,
            traceparent=traceparent,
            tracestate=tracestate,
        )
        for to in once
    )
    return PlannedNotification(notification_id=notification, deliveries=deliveries)


def read_recipients(to: Iterable[Recipient], *, channels: Mapping[str, Channel]) -> Iterator[Address | Flaw]:
    """Each recipient in canonical form, or what is wrong with it, one after the other: some take milliseconds."""
    for index, recipient in enumerate(to):
        channel = channels.get(recipient.channel)
        if channel is None:
            message = f"there is no channel {_quote(recipient.channel)} here; there are: {', '.join(sorted(channels))}"
            yield Flaw(path=f"$.to[{index}].channel", code="unknown_channel", message=message)
            continue
        try:
            address = channel.canonical(recipient.address)
        except InvalidAddress as error:
            yield Flaw(path=f"$.to[{index}].address", code="invalid_address", message=str(error))
        else:
            yield Address(channel=recipient.channel, address=address)


def _too_many(recipients: int) -> Flaw:
    message = (
        f"{recipients} recipients; a notification has at most {MAX_DELIVERIES}. Put what is said into a template and "
        "spread the recipients over several requests"
    )
    return Flaw(path="$.to", code="too_many_deliveries", message=message)


def _read_content(
    request: NotificationRequest,
    *,
    recipients: Collection[Address],
    offer: Offer,
    rendered: Content | TemplateError | None,
    flaws: list[Flaw],
) -> tuple[Content | None, TemplateRef | None]:
    """What will be said, checked for every channel asked, and the template that it comes from if any."""
    said: Content | None
    if (request.content is None) == (request.template is None):
        message = (
            "give `content` or `template`" if request.content is None else "give `content` or `template`, not both"
        )
        flaws.append(Flaw(path="$", code="content_or_template", message=message))
        return None, None
    if request.content is not None:
        if request.data is not None:
            message = "`data` is what a template is rendered with; beside `content` write `content.data`"
            flaws.append(Flaw(path="$.data", code="data_without_template", message=message))
        where, said, template = "$.content", _read_plain(request.content, flaws=flaws), None
    else:
        assert request.template is not None
        where = "$.template"
        said, template = _read_template(
            request.template, request.data or {}, templates=offer.templates, rendered=rendered, flaws=flaws
        )
    if said is not None:
        problems = (offer.channels[channel].check(said) for channel in {to.channel: None for to in recipients})
        flaws += [Flaw(path=where, code="unusable_content", message=problem) for problem in problems if problem]
    return said, template


def _read_plain(content: RequestedContent, *, flaws: list[Flaw]) -> Content:
    _check_nesting(content.data, path="$.content.data", flaws=flaws)
    said: dict[str, Any] = {"title": content.title, "body": content.body, "data": content.data}
    model: type[Content] = Content
    for channel, part, free_fields in _parts_to_read():
        asked = getattr(content, channel, None)
        if asked is not None:
            for name, path in free_fields:
                _check_nesting(getattr(asked, name), path=path, flaws=flaws)
            said[channel] = part(**msgspec.structs.asdict(asked))
            model = content_type()
    return model(**said)


@functools.cache
def _parts_to_read() -> Sequence[tuple[str, type[Fact], Sequence[tuple[str, str]]]]:
    """For each channel's part: the channel, its model, and the fields that may be nested with their paths."""
    return [
        (channel, part.model, [(name, f"$.content.{channel}.{name}") for name in part.free_fields])
        for channel, part in installed_parts().items()
    ]


def _read_template(
    name: str,
    data: dict[str, Any],
    *,
    templates: Mapping[str, Template],
    rendered: Content | TemplateError | None,
    flaws: list[Flaw],
) -> tuple[Content | None, TemplateRef | None]:
    """Render once, now, so that a template that lacks data is the caller's error and not a dead letter."""
    template = templates.get(name)
    if template is None:
        known = ", ".join(sorted(templates)) or "none"
        message = f"there is no template {_quote(name)} here; there are: {known}"
        flaws.append(Flaw(path="$.template", code="unknown_template", message=message))
        return None, None
    if not _check_nesting(data, path="$.data", flaws=flaws):
        return None, None
    if rendered is None:
        try:
            rendered = template.render(data, work=WORK_HERE)
        except TooMuchWork:
            raise
        except TemplateError as error:
            rendered = error
    if isinstance(rendered, TemplateError):
        flaws.append(Flaw(path="$.data", code="template_failed", message=str(rendered)))
        return None, None
    return rendered, TemplateRef(name=name, hash=template.hash, data=data)


def _read_times(
    request: NotificationRequest, *, now: datetime, time_to_live: timedelta, flaws: list[Flaw]
) -> tuple[datetime | None, datetime]:
    """When to start (None: at once) and when to stop."""
    send_at = request.send_at if request.send_at is not None and request.send_at > now else None
    starts_at = send_at or now
    if starts_at > now + MAX_SEND_AHEAD:
        # No further arithmetic: a time near the end of the calendar overflows.
        message = f"is more than {MAX_SEND_AHEAD.days} days ahead"
        flaws.append(Flaw(path="$.send_at", code="invalid_send_at", message=message))
        return None, now
    latest = starts_at + MAX_TIME_TO_LIVE
    if request.expires_at is None:
        expires_at = min(starts_at + time_to_live, latest)
    elif request.expires_at > starts_at:
        expires_at = min(request.expires_at, latest)
    else:
        message = "is not after `send_at`" if send_at is not None and request.expires_at > now else "has passed"
        flaws.append(Flaw(path="$.expires_at", code="invalid_expires_at", message=message))
        return None, now
    return send_at and send_at.astimezone(UTC), expires_at.astimezone(UTC)


def _check_nesting(value: Any, *, path: str, flaws: list[Flaw]) -> bool:
    level = [value] if type(value) in (dict, list) else []
    for _ in range(MAX_NESTING):
        # Decoded JSON: no subclasses. A body may hold a hundred thousand lists, and this is run between two requests.
        deeper: list[Any] = []
        for outer in level:
            inside = outer.values() if type(outer) is dict else outer
            deeper += [inner for inner in inside if type(inner) is list or type(inner) is dict]
        if not deeper:
            return True
        level = deeper
    flaws.append(Flaw(path=path, code="nested_too_deeply", message=f"is nested more than {MAX_NESTING} levels deep"))
    return False


def _quote(name: str) -> str:
    """A caller's word in a message: short, and unable to break out of its quotes."""
    return repr(name if len(name) <= 64 else name[:64] + "…")
