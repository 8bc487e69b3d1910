"""The API described to machines: an OpenAPI 3.1 document made from the types that really decode and encode."""

from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec

from pabal.api.messages import Accepted, BatchAnswer, BatchProblem, BatchRequest, Health
from pabal.api.problems import KINDS, Code, Problem
from pabal.plan import NotificationRequest

Json = dict[str, Any]

_ABOUT: Final = """Pabal accepts notifications, keeps them in a log, and sends them: by e-mail, by webhook.
A 202 means that every delivery stands in the log. Every error is a problem document (RFC 9457) with a stable `code`.
"""

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

_BODY_CODES: Final[tuple[Code, ...]] = (
    "invalid_json",
    "body_timeout",
    "body_too_large",
    "unsupported_media_type",
    "nested_too_deeply",
    "invalid_field",
    "missing_field",
    "unknown_field",
)
_KEY_CODES: Final[tuple[Code, ...]] = ("missing_key", "invalid_key", "insufficient_scope")
_LOG_CODES: Final[tuple[Code, ...]] = ("log_unavailable", "topics_missing")
_NOTIFICATION_CODES: Final[tuple[Code, ...]] = (
    "invalid_idempotency_key",
    "content_or_template",
    "data_without_template",
    "expansion_too_large",
    "invalid_address",
    "invalid_expires_at",
    "invalid_request",
    "invalid_send_at",
    "template_failed",
    "too_many_deliveries",
    "unknown_channel",
    "unknown_template",
    "unusable_content",
)


def describe_api(*, channels: Collection[str]) -> Json:
    """The document for an installation with these channels."""
    _, components = msgspec.json.schema_components(
        [NotificationRequest, BatchRequest, Accepted, BatchAnswer, Problem, BatchProblem, Health],
        ref_template="#/components/schemas/{name}",
    )
    components["Recipient"]["properties"]["channel"]["enum"] = sorted(channels)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Pabal", "version": version("pabal"), "description": _ABOUT},
        "paths": {
            "/v1/notifications": {"post": _accept()},
            "/v1/notifications/batch": {"post": _accept_batch()},
            "/healthz": {"get": _probe("Whether the process is alive", codes=())},
            "/readyz": {"get": _probe("Whether the log answers and has the topics that are needed", codes=_LOG_CODES)},
            "/openapi.json": {"get": _fixed("This document", "application/json", {"type": "object"})},
            "/docs": {"get": _fixed("This document, for people", "text/html", {"type": "string"})},
        },
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key, made by `pabal key new`."}
            },
        },
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
            }
        ],
        "requestBody": _body("NotificationRequest", example=_EXAMPLE),
        "responses": {
            "202": {
                **_json("Every delivery stands in the log.", "Accepted"),
                "headers": {"Idempotency-Key": {"description": about, **key}},
            },
            **_problems((*_BODY_CODES, *_KEY_CODES, *_NOTIFICATION_CODES, *_LOG_CODES), schema="Problem"),
        },
    }


def _accept_batch() -> Json:
    return {
        "operationId": "acceptBatch",
        "summary": "Accept up to 500 notifications",
        "description": _BATCH_ABOUT,
        "security": [{"key": []}],
        "requestBody": _body("BatchRequest", example={"notifications": [{**_EXAMPLE, "idempotency_key": "order-17"}]}),
        "responses": {
            "202": _json("Every notification was accepted.", "BatchAnswer"),
            "207": _json("At least one was not; each result has its own status.", "BatchAnswer"),
            **_problems((*_BODY_CODES, *_KEY_CODES, "idempotency_key_on_batch"), schema="Problem"),
            **_problems(_LOG_CODES, schema="BatchProblem"),
        },
    }


def _probe(summary: str, *, codes: Sequence[Code]) -> Json:
    return {"summary": summary, "responses": {"200": _json("Yes.", "Health"), **_problems(codes, schema="Problem")}}


def _fixed(summary: str, media_type: str, schema: Json) -> Json:
    return {
        "summary": summary,
        "responses": {"200": {"description": "It.", "content": {media_type: {"schema": schema}}}},
    }


def _body(schema: str, *, example: Json) -> Json:
    return {"required": True, "content": {"application/json": {"schema": _ref(schema), "example": example}}}


def _json(description: str, schema: str) -> Json:
    return {"description": description, "content": {"application/json": {"schema": _ref(schema)}}}


def _problems(codes: Sequence[Code], *, schema: str) -> Mapping[str, Json]:
    """One response per status, naming the codes that come with it."""
    by_status: dict[int, list[Code]] = {}
    for code in codes:
        by_status.setdefault(KINDS[code].status, []).append(code)
    return {str(status): _problem(status, sorted(names), schema=schema) for status, names in sorted(by_status.items())}


def _problem(status: int, codes: Sequence[Code], *, schema: str) -> Json:
    headers: Json = {}
    if status == 401:
        headers["WWW-Authenticate"] = {"description": "RFC 6750 §3.", "schema": {"type": "string"}}
    if status == 503:
        headers["Retry-After"] = {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
    return {
        "description": ", ".join(f"`{code}`" for code in codes),
        "headers": headers,
        "content": {"application/problem+json": {"schema": _ref(schema)}},
    }


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}
