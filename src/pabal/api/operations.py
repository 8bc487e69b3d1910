"""The description of what is asked about notifications once they are accepted: look-ups, cancels, receipts, lists."""

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from pabal.api.describing import (
    BODY_CODES,
    KEY_CODES,
    LOG_CODES,
    PUBLIC,
    Json,
    answer,
    body,
    path_parameter,
    problems,
    query_parameters,
)
from pabal.api.lookups import ListQuery, Waiting
from pabal.api.messages import (
    CancelledDelivery,
    CancelledNotification,
    NotificationView,
    SuppressionPage,
    SuppressionView,
    TakenReceipts,
)
from pabal.api.problems import Code
from pabal.api.suppressing import SuppressionRequest, SuppressionsQuery
from pabal.store.port import DeliveryPage, DeliveryView

MODELS: Final[tuple[type[msgspec.Struct], ...]] = (
    NotificationView,
    DeliveryView,
    DeliveryPage,
    CancelledNotification,
    CancelledDelivery,
    TakenReceipts,
    SuppressionRequest,
    SuppressionView,
    SuppressionPage,
)
"""What these operations take and answer."""

_STORE_CODES: Final[tuple[Code, ...]] = ("invalid_parameter", "no_store", "store_unavailable")
_FIND_CODES: Final[tuple[Code, ...]] = (*_STORE_CODES, "not_found", "not_recorded_yet", "log_unavailable")

_LOOKUP_ABOUT: Final = """What is recorded may be a moment behind the log. An id that is not recorded answers 404: with
the code `not_recorded_yet` and the lag while the recorder is behind, with `not_found` when it is not. `wait` waits."""

_CANCEL_ABOUT: Final = """Asking twice is safe. `cancelled`: it is not sent, or not again. `in_flight`: a call is under
way; it ends as it ends, and none follows. `too_late`: it was sent, or has ended otherwise."""

_RECEIPT_ABOUT: Final = """Where a provider reports what became of what it took. No API key: the provider's signature
is checked (for `smtp` as the manual's page on providers says). A 202 means that the receipts stand in the log; the same
callback again changes nothing. The addresses of hard bounces, complaints and unsubscribes are suppressed."""


def describe_operations(*, channels: Collection[str]) -> Mapping[str, Json]:
    """Path items of the document."""
    return {
        "/v1/notifications/{id}": {"get": _find("Notification", "a notification's deliveries", "NotificationView")},
        "/v1/notifications/{id}/cancel": {"post": _cancel("Notification", "CancelledNotification")},
        "/v1/deliveries": {"get": _list_deliveries(channels)},
        "/v1/deliveries/{id}": {"get": _find("Delivery", "a delivery and all that happened to it", "DeliveryView")},
        "/v1/deliveries/{id}/cancel": {"post": _cancel("Delivery", "CancelledDelivery")},
        "/v1/receipts/{provider}": {"post": _take_receipts()},
        "/v1/suppressions": {"get": _list_suppressions(), "post": _suppress()},
        "/v1/suppressions/{channel}/{address}": {"delete": _lift()},
    }


def _find(what: str, summary: str, schema: str) -> Json:
    return {
        "operationId": f"get{what}",
        "summary": f"Look up {summary}",
        "description": f"Look up {summary}. {_LOOKUP_ABOUT} Needs the scope `read`.",
        "security": [{"key": []}],
        "parameters": [_id(what), *query_parameters(Waiting)],
        "responses": {"200": answer("As it stands.", schema), **problems((*KEY_CODES, *_FIND_CODES))},
    }


def _cancel(what: str, schema: str) -> Json:
    codes: tuple[Code, ...] = (*KEY_CODES, *_FIND_CODES, "topics_missing", "ledger_unavailable")
    return {
        "operationId": f"cancel{what}",
        "summary": f"Take a {what.lower()} back",
        "description": f"Take a {what.lower()} back as far as it was not sent yet. {_CANCEL_ABOUT} {_LOOKUP_ABOUT}",
        "security": [{"key": []}],
        "parameters": [_id(what), *query_parameters(Waiting)],
        "responses": {"200": answer("What it came to.", schema), **problems(codes)},
    }


def _id(what: str) -> Json:
    return path_parameter("id", f"The {what.lower()}'s id.", schema={"type": "string", "format": "uuid"})


def _list_deliveries(channels: Collection[str]) -> Json:
    named = f"The channels here: {', '.join(f'`{channel}`' for channel in sorted(channels))}."
    return {
        "operationId": "listDeliveries",
        "summary": "List deliveries",
        "description": f"Deliveries, newest first, without their timelines. Needs the scope `read`. {named}",
        "security": [{"key": []}],
        "parameters": query_parameters(ListQuery),
        "responses": {"200": answer("A page.", "DeliveryPage"), **problems((*KEY_CODES, *_STORE_CODES))},
    }


def _take_receipts() -> Json:
    codes: tuple[Code, ...] = (
        "receipt_refused",
        "unreadable_receipt",
        "not_found",
        "body_timeout",
        "body_too_large",
        "record_refused",
    )
    return {
        "operationId": "takeReceipts",
        "summary": "Take a provider's callback",
        "description": _RECEIPT_ABOUT,
        "security": PUBLIC,
        "parameters": [
            path_parameter("provider", "As the configuration names it.", schema={"type": "string", "minLength": 1})
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object", "additionalProperties": True},
                    "example": {
                        "receipts": [
                            {
                                "event": "relay-4711",
                                "kind": "bounced",
                                "permanent": True,
                                "at": "2026-03-01T12:00:00Z",
                                "message_id": "<ed19d4a3-93a3-5c3a-9e05-0c9ad0a36a7d@example.com>",
                                "detail": "550 5.1.1 no such user",
                            }
                        ]
                    },
                }
            },
        },
        "responses": {"202": answer("They stand in the log.", "TakenReceipts"), **problems((*codes, *LOG_CODES))},
    }


def _list_suppressions() -> Json:
    return {
        "operationId": "listSuppressions",
        "summary": "List suppressed addresses",
        "description": "Addresses that nothing is sent to, and why. By channel and address. Needs the scope `read`.",
        "security": [{"key": []}],
        "parameters": query_parameters(SuppressionsQuery),
        "responses": {
            "200": answer("A page.", "SuppressionPage"),
            **problems((*KEY_CODES, "invalid_parameter", *LOG_CODES)),
        },
    }


def _suppress() -> Json:
    codes: tuple[Code, ...] = (
        *BODY_CODES,
        *KEY_CODES,
        "unknown_channel",
        "invalid_address",
        "record_refused",
        *LOG_CODES,
    )
    return {
        "operationId": "suppress",
        "summary": "Suppress an address",
        "description": "Send nothing to an address from about a second on. Again is the same. Needs the scope `send`.",
        "security": [{"key": []}],
        "requestBody": body("SuppressionRequest", example={"channel": "email", "address": "ana@example.com"}),
        "responses": {"201": answer("It is suppressed.", "SuppressionView"), **problems(codes)},
    }


def _lift() -> Json:
    text: Json = {"type": "string", "minLength": 1}
    return {
        "operationId": "liftSuppression",
        "summary": "Lift a suppression",
        "description": "Send to an address again, from about a second on. Percent-encode the address. Needs the scope "
        "`admin`: mail goes again to someone who may have complained.",
        "security": [{"key": []}],
        "parameters": [
            path_parameter("channel", "Such as `email`.", schema=text),
            path_parameter("address", "In any spelling.", schema=text),
        ],
        "responses": {
            "200": answer("What was lifted.", "SuppressionView"),
            **problems((*KEY_CODES, "not_found", *LOG_CODES)),
        },
    }
