"""The API described to machines: an OpenAPI 3.1 document made from the types that really decode and encode."""

from collections.abc import Collection, Sequence
from importlib.metadata import version
from typing import Final

import msgspec

from pabal.api.dead_letter_operations import DEAD_LETTER_MODELS, describe_dead_letters
from pabal.api.describing import BODY_CODES, KEY_CODES, LOG_CODES, PUBLIC, Json, answer, body, problems
from pabal.api.front import Front
from pabal.api.messages import Accepted, BatchAnswer, BatchProblem, BatchRequest, Health
from pabal.api.operations import MODELS, describe_operations
from pabal.api.problems import Code, Problem
from pabal.api.schemas import describe_models
from pabal.plan import NotificationRequest

_ABOUT: Final = """Pabal accepts notifications, keeps them in a log, sends them (by e-mail, by webhook), and tells
what happened to them. A 202 means that every delivery stands in the log. Every error is a problem document (RFC 9457)
with a stable `code`.

What breaks a bound of HTTP is refused before any operation, and the connection closed: `head_too_large` (431),
`head_timeout` (408), `malformed_request`, `repeated_field`, `trailers_refused` (400), `too_many_connections` (503)."""

_ACCEPT_ABOUT: Final = """Accept one notification. The same idempotency key within a tenant gives the same ids and is
not sent twice; of two different bodies under one key the first that is worked on wins. Without a key one is made.
The key is in every answer, also in an error: after a 503 send the request again with it."""

_BATCH_ABOUT: Final = """Accept up to 500 notifications in one append. Each is judged by itself and has its own
result, in the order of the items: 202 when all were accepted, 207 when at least one was not. A 503 puts the whole
append in doubt: send the batch again with the keys of its `results`."""

_EXAMPLE: Final = {
    "to": [
        {"channel": "email", "address": "ana@example.com"},
        {"channel": "webhook", "address": "https://example.com/hook"},
    ],
    "class": "standard",
    "content": {"title": "Order 17 shipped", "body": "It arrives on Tuesday.", "data": {"order": 17}},
    "tags": ["order-17"],
}

_NOTIFICATION_CODES: Final[tuple[Code, ...]] = (
    "invalid_idempotency_key",
    "content_or_template",
    "data_without_template",
    "expansion_too_large",
    "invalid_address",
    "invalid_expires_at",
    "invalid_request",
    "invalid_send_at",
    "quota_exceeded",
    "record_refused",
    "rendering_unavailable",
    "template_failed",
    "too_many_deliveries",
    "unknown_channel",
    "unknown_template",
    "unusable_content",
)


_MODELS: Final[Sequence[type[msgspec.Struct]]] = (
    NotificationRequest,
    BatchRequest,
    Accepted,
    BatchAnswer,
    Problem,
    BatchProblem,
    *MODELS,
    *DEAD_LETTER_MODELS,
    Health,
    Front,
)


def describe_api(*, channels: Collection[str]) -> Json:
    """The document for an installation with these channels."""
    paths = {
        "/v1/notifications": {"post": _accept()},
        "/v1/notifications/batch": {"post": _accept_batch()},
        **describe_operations(channels=channels),
        **describe_dead_letters(),
        "/healthz": {"get": _probe("getHealth", "Whether the process works", codes=("not_alive",))},
        "/readyz": {"get": _probe("getReadiness", "Whether an append would succeed now", codes=LOG_CODES)},
        "/": {"get": _front()},
        "/openapi.json": {"get": _fixed("getDescription", "This document", "application/json", {"type": "object"})},
        "/docs": {"get": _fixed("getDocs", "This document, for people", "text/html", {"type": "string"})},
    }
    components = describe_models(_MODELS, paths=paths)
    components["Recipient"]["properties"]["channel"]["enum"] = sorted(channels)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pabal", "version": version("pabal"), "description": _ABOUT},
        "servers": [{"url": "/", "description": "Where this document comes from."}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, made by `pabal key new`."}
            },
        },
    }


_TRACEPARENT: Final = {
    "name": "traceparent",
    "in": "header",
    "required": False,
    "description": "The trace that the deliveries belong to (W3C Trace Context). A malformed one counts as none.",
    "schema": {"type": "string"},
}

_TRACESTATE: Final = {
    "name": "tracestate",
    "in": "header",
    "required": False,
    "description": "Goes with `traceparent` (W3C Trace Context), up to 512 characters. A malformed one counts as none.",
    "schema": {"type": "string"},
}


def _accept() -> Json:
    key = {"schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}}
    about = "Given or made; send it again with a retry."
    return {
        "operationId": "acceptNotification",
        "summary": "Accept a notification",
        "description": _ACCEPT_ABOUT,
        "security": [{"key": []}],
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "Names the notification within the tenant. Made by the server when absent.",
                **key,
            },
            _TRACEPARENT,
            _TRACESTATE,
        ],
        "requestBody": body("NotificationRequest", example=_EXAMPLE),
        "responses": {
            "202": {
                **answer("Every delivery stands in the log.", "Accepted"),
                "headers": {"Idempotency-Key": {"description": about, **key}},
            },
            **problems((*BODY_CODES, *KEY_CODES, *_NOTIFICATION_CODES, *LOG_CODES), schema="Problem"),
        },
    }


def _accept_batch() -> Json:
    return {
        "operationId": "acceptBatch",
        "summary": "Accept up to 500 notifications",
        "description": _BATCH_ABOUT,
        "security": [{"key": []}],
        "parameters": [_TRACEPARENT, _TRACESTATE],
        "requestBody": body("BatchRequest", example={"notifications": [{**_EXAMPLE, "idempotency_key": "order-17"}]}),
        "responses": {
            "202": answer("Every notification was accepted.", "BatchAnswer"),
            "207": answer("At least one was not; each result has its own status.", "BatchAnswer"),
            **problems((*BODY_CODES, *KEY_CODES, "idempotency_key_on_batch", "quota_exceeded"), schema="Problem"),
            **problems(LOG_CODES, schema="BatchProblem"),
        },
    }


def _probe(operation: str, summary: str, *, codes: Sequence[Code]) -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "security": PUBLIC,
        "responses": {"200": answer("Yes.", "Health"), **problems(codes, schema="Problem")},
    }


def _front() -> Json:
    front = answer("Where to go from here.", "Front")
    front["content"]["text/html"] = {"schema": {"type": "string"}}
    return {
        "operationId": "getFront",
        "summary": "Where to go from here: a page where HTML is preferred (`Accept`), else JSON",
        "security": PUBLIC,
        "responses": {"200": front},
    }


def _fixed(operation: str, summary: str, media_type: str, schema: Json) -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "security": PUBLIC,
        "responses": {"200": {"description": "It.", "content": {media_type: {"schema": schema}}}},
    }
