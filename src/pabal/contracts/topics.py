"""Where records stand: topics, and per message its key, its headers, and which record is its value. Pure.

This says in words what `codec.py` and its like do in code; `tests/contracts/test_topics.py` compares the two.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from pabal.notification import (
    AUDIT_TOPIC,
    CLASSES,
    EVENTS_TOPIC,
    HISTORY_TOPIC,
    OPS_TOPIC,
    RUNGS_SECONDS,
    STATUS_TOPIC,
    SUPPRESSIONS_TOPIC,
    UNKNOWN_CHANNEL,
    dead_topic,
    deliveries_topic,
)

UUID_FORM: Final = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
INSTANT_FORM: Final = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?\+00:00"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """A header field: UTF-8 text. `form`: the pattern that the whole text has; None: any text."""

    name: str
    about: str
    form: str | None = None
    is_always_there: bool = True


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of message on a topic. `schema` names the record that is its value; None: a tombstone, which has none."""

    name: str
    about: str
    key: str
    headers: Sequence[Header]
    schema: str | None


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """A topic, or several of one form: `parameters` says what may stand in the braces of its address."""

    name: str
    address: str
    about: str
    messages: Sequence[Message]
    parameters: Mapping[str, "Parameter"] = {}


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """What may stand in a topic's name. No `words`: any."""

    about: str
    words: Sequence[str] = ()


def _schema(name: str) -> Header:
    return Header(name="schema", about="The name and major version of the value's schema.", form=name)


_TRACEPARENT: Final = Header(
    name="traceparent",
    about="The trace that the delivery belongs to (W3C Trace Context), where there is one.",
    form="[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
    is_always_there=False,
)

_TRACESTATE: Final = Header(
    name="tracestate",
    about="What the caller's tracing systems say of that trace (W3C Trace Context), where they do.",
    form=r"[\x20-\x7e]{3,512}",
    is_always_there=False,
)

_LANE_KEY: Final = (
    "The tenant, `/`, and the order key, without one the delivery's id: what has one key stands in one partition"
)


def _cloud_event(*, type_: str, about: str) -> Sequence[Header]:
    """CloudEvents 1.0 in Kafka's binary mode (Kafka Protocol Binding §3.2)."""
    return (
        Header(name="ce_specversion", about="The version of CloudEvents.", form=r"1\.0"),
        Header(name="ce_id", about="The event's id; equal for a repeated append of the same fact.", form=UUID_FORM),
        Header(name="ce_source", about="Who tells.", form="/pabal"),
        Header(name="ce_type", about=about, form=type_),
        Header(name="ce_time", about="When it happened.", form=INSTANT_FORM),
        Header(name="content-type", about="What the value is.", form="application/json"),
    )


_DELIVERY: Final = Message(
    name="delivery",
    about="A delivery on its way to a worker.",
    key=_LANE_KEY,
    headers=(_schema("delivery/1"), _TRACEPARENT, _TRACESTATE),
    schema="delivery/1",
)

_DELAYED: Final = Message(
    name="delayedDelivery",
    about="A delivery that waits; it comes back to the topic of its channel and class.",
    key=_LANE_KEY,
    headers=(
        _schema("delivery/1"),
        _TRACEPARENT,
        _TRACESTATE,
        Header(name="x-due", about="When the whole wait is over.", form=INSTANT_FORM),
        Header(name="x-release-at", about="When the wait on this topic is over.", form=INSTANT_FORM),
        Header(
            name="x-parked-for",
            about="Which provider, host or tenant would not take it; once that is well again the wait may end early.",
            is_always_there=False,
        ),
        Header(name="x-parked-at", about="Since when it waits for that.", form=INSTANT_FORM, is_always_there=False),
    ),
    schema="delivery/1",
)

_DEAD: Final = Message(
    name="deadLetter",
    about="A delivery as it stood at its last attempt, or bytes as they came where nobody could read them: then "
    "`schema` is what they said themselves, and the value need not fit it.",
    key="The key of the record it was",
    headers=(
        Header(name="schema", about="The name and major version of the value's schema, as far as it is known."),
        _TRACEPARENT,
        _TRACESTATE,
        Header(name="x-original-topic", about="Where the record stood."),
        Header(name="x-original-partition", about="Where the record stood.", form=r"\d+"),
        Header(name="x-original-offset", about="Where the record stood.", form=r"\d+"),
        Header(name="x-original-timestamp", about="When it was appended there.", form=INSTANT_FORM),
        Header(name="x-group", about="The consumer group that gave it up."),
        Header(name="x-provider", about="Who was to carry it; empty where nobody was chosen."),
        Header(name="x-attempts", about="How often a provider was called; 0 for what nobody could read.", form=r"\d+"),
        Header(name="x-first-failed-at", about="When its first attempt failed.", form=INSTANT_FORM),
        Header(name="x-failed-at", about="When it was given up.", form=INSTANT_FORM),
        Header(name="x-error-class", about="Why, as a stable word.", form="[a-z_]+"),
        Header(name="x-error-message", about="Why, for a person."),
        Header(
            name="x-cut-from-bytes",
            about="The value is only the start of one that was this long: the log would not take it whole.",
            form=r"\d+",
            is_always_there=False,
        ),
    ),
    schema="delivery/1",
)

_EVENT: Final = Message(
    name="deliveryEvent",
    about="What happened to a delivery, as a CloudEvent.",
    key="The delivery's id in 32 hex digits: what happened to one delivery stands in one partition",
    headers=(
        _schema("delivery-event/1"),
        *_cloud_event(
            type_=r"pabal\.delivery\.[a-z_]+", about="`pabal.delivery.` and the value's `kind`; new kinds may come."
        ),
        msgspec.structs.replace(_TRACEPARENT, name="ce_traceparent"),
    ),
    schema="delivery-event/1",
)

_RECEIPT: Final = Message(
    name="receipt",
    about="What a provider reported later about a delivery, as a CloudEvent.",
    key="The delivery's id in 32 hex digits; the provider's name, `/` and its own id where that is all that is known",
    headers=(
        _schema("receipt/1"),
        *_cloud_event(
            type_=r"pabal\.receipt\.[a-z_]+", about="`pabal.receipt.` and the value's `kind`; new kinds may come."
        ),
    ),
    schema="receipt/1",
)

_SUPPRESSION_KEY: Final = "Tenant, channel and address, between them `/`"

_CLASS: Final = Parameter(about="How urgent.", words=CLASSES)
_CHANNEL: Final = Parameter(about="The medium: `email`, `webhook`.")

TOPICS: Final[Sequence[Topic]] = (
    Topic(
        name="deliveries",
        address=deliveries_topic("{channel}", "{class}"),
        about="What is to be sent, per channel and class.",
        parameters={"channel": _CHANNEL, "class": _CLASS},
        messages=(_DELIVERY,),
    ),
    Topic(
        name="delay",
        address="pabal.delay.{class}.{seconds}",
        about="What waits, per class and constant delay, so that the records of a partition come due in their order.",
        parameters={
            "class": _CLASS,
            "seconds": Parameter(about="The delay.", words=[str(seconds) for seconds in RUNGS_SECONDS]),
        },
        messages=(_DELAYED,),
    ),
    Topic(
        name="dead",
        address=dead_topic("{channel}"),
        about="What needs a person, per channel.",
        parameters={"channel": Parameter(about=f"The medium; `{UNKNOWN_CHANNEL}` for bytes that do not tell theirs.")},
        messages=(_DEAD,),
    ),
    Topic(
        name="events",
        address=EVENTS_TOPIC,
        about="What happened, for anyone who reads: with a consumer group of your own you disturb nobody.",
        messages=(_EVENT, _RECEIPT),
    ),
    Topic(
        name="suppressions",
        address=SUPPRESSIONS_TOPIC,
        about="Addresses that must not be written to; the last record of a key holds, a tombstone lifts it.",
        messages=(
            Message(
                name="suppression",
                about="The address must not be written to.",
                key=_SUPPRESSION_KEY,
                headers=(_schema("suppression/1"),),
                schema="suppression/1",
            ),
            Message(
                name="suppressionLifted",
                about="It may be written to again.",
                key=_SUPPRESSION_KEY,
                headers=(_schema("suppression/1"),),
                schema=None,
            ),
        ),
    ),
    Topic(
        name="audit",
        address=AUDIT_TOPIC,
        about="Who did what, why, and how it ended: facts that never change.",
        messages=(
            Message(
                name="auditFact",
                about="One fact.",
                key="What it was done to",
                headers=(_schema("audit/1"), Header(name="x-action", about="The value's `action`.")),
                schema="audit/1",
            ),
        ),
    ),
    Topic(
        name="ops",
        address=OPS_TOPIC,
        about="Small state that every role shares; the last record of a key holds.",
        messages=(
            Message(
                name="template",
                about="A template by the hash of its source, so that every worker can render what was accepted.",
                key="`template/` and the SHA-256 of the value in hex",
                headers=(_schema("template/1"), Header(name="x-template-name", about="The template's name.")),
                schema="template/1",
            ),
            Message(
                name="ledger",
                about="Which ledger the log belongs to.",
                key="`ledger/id`",
                headers=(_schema("ledger/1"),),
                schema="ledger/1",
            ),
            Message(
                name="brake",
                about="Whether a class of a channel is braked, because too many of its records cannot be read.",
                key="`brake/`, the channel, `/` and the class",
                headers=(_schema("brake/1"),),
                schema="brake/1",
            ),
            Message(
                name="recorderBrake",
                about="Whether the recorder holds partitions of a topic, most of whose records it cannot fold.",
                key="`brake/recorder/` and the topic's name",
                headers=(_schema("brake/1"),),
                schema="brake/1",
            ),
            Message(
                name="seek",
                about="A person's word that a consumer group goes on with another offset of a partition.",
                key="`seek/`, the group, `/`, the topic, `/` and the partition",
                headers=(_schema("seek/1"),),
                schema="seek/1",
            ),
            Message(
                name="passedOver",
                about="Deliveries that a consumer group passed over: its offset was moved beyond them.",
                key="`passed-over/`, the group, `/`, the topic, `/` and the partition",
                headers=(_schema("passed-over/1"),),
                schema="passed-over/1",
            ),
            Message(
                name="passedOverDecided",
                about="A person has decided about them.",
                key="`passed-over/`, the group, `/`, the topic, `/` and the partition",
                headers=(),
                schema=None,
            ),
            Message(
                name="recovery",
                about="A provider, host or tenant answers again: what was parked for it before need not wait longer.",
                key="`recovery/`, the channel, `/` and the name of who answers",
                headers=(_schema("recovery/1"),),
                schema="recovery/1",
            ),
            Message(
                name="recoveryTakenBack",
                about="It does not answer any more, or nobody waits for it any more.",
                key="`recovery/`, the channel, `/` and the name of who answered",
                headers=(),
                schema=None,
            ),
            Message(
                name="redriveClaim",
                about="Who redrives a dead topic now (of one tenant's letters: the key goes on with `/TENANT`).",
                key="`redrive/` and the topic's name",
                headers=(_schema("redrive-claim/1"),),
                schema="redrive-claim/1",
            ),
            Message(
                name="redriveClaimEnded",
                about="Nobody does any more.",
                key="`redrive/` and the topic's name",
                headers=(),
                schema=None,
            ),
        ),
    ),
    Topic(
        name="status",
        address=STATUS_TOPIC,
        about="What each process tells of itself, and what the monitor sampled: for a day. Nothing is decided by it.",
        messages=(
            Message(
                name="processStatus",
                about="One process: its roles, what they hold and obey, what they counted.",
                key="`status/` and the instance",
                headers=(_schema("status/1"),),
                schema="status/1",
            ),
            Message(
                name="lagSample",
                about="Where the groups stood on their partitions.",
                key="`sample/` and the instance of the monitor",
                headers=(_schema("lag-sample/1"),),
                schema="lag-sample/1",
            ),
        ),
    ),
    Topic(
        name="history",
        address=HISTORY_TOPIC,
        about="What happened, minute by minute, over all processes: for charts of weeks, and to compare with.",
        messages=(
            Message(
                name="minute",
                about="One minute: what was counted in it, and each group at its worst.",
                key="`minute`",
                headers=(_schema("history/1"),),
                schema="history/1",
            ),
        ),
    ),
)
