"""The description of what is asked about dead letters and redrives."""

from collections.abc import Mapping
from typing import Final

import msgspec

from pabal.api.dead_letters import (
    Counts,
    CountsQuery,
    DiscardAllRequest,
    Discarded,
    DiscardRequest,
    EditRequest,
    LettersQuery,
)
from pabal.api.describing import (
    BODY_CODES,
    KEY_CODES,
    LOG_CODES,
    Json,
    answer,
    body,
    path_parameter,
    problems,
    query_parameters,
)
from pabal.api.problems import Code
from pabal.api.redrives import BegunRedrive, CancelledRedrive, PlanRequest, RedriveList, RedriveRequest
from pabal.dlq.plan import Plan
from pabal.dlq.views import LetterDetail, LetterPage, RedriveView

DEAD_LETTER_MODELS: Final[tuple[type[msgspec.Struct], ...]] = (
    LetterPage,
    LetterDetail,
    Counts,
    EditRequest,
    DiscardRequest,
    DiscardAllRequest,
    Discarded,
    PlanRequest,
    Plan,
    RedriveRequest,
    BegunRedrive,
    RedriveList,
    RedriveView,
    CancelledRedrive,
)
"""What these operations take and answer."""

_ABOUT: Final = """Needs the scope `admin`, for the dead letters of the key's own tenant; with the scope `operator`, for
every tenant's and those that cannot be read and so have none. Who and why go to the audit log."""

_WORDS: Final[Json] = {"type": "string", "minLength": 1}
_NUMBER: Final[Json] = {"type": "integer", "minimum": 0}
_CHANGE_CODES: Final[tuple[Code, ...]] = (*BODY_CODES, *KEY_CODES, "not_found", "letter_refused", *LOG_CODES)


def describe_dead_letters() -> Mapping[str, Json]:
    """Path items of the document."""
    return {**_letter_paths(), **_redrive_paths()}


def _letter_paths() -> Mapping[str, Json]:
    letter = "/v1/dead-letters/{channel}/{partition}/{offset}"
    edit = {"address": "https://example.com/new", "reason": "the customer moved"}
    return {
        "/v1/dead-letters": {
            "get": _get("listDeadLetters", "List dead letters, newest first", "LetterPage")
            | {"parameters": query_parameters(LettersQuery)}
        },
        "/v1/dead-letters/stats": {
            "get": _get("countDeadLetters", "Count dead letters by what they share", "Counts")
            | {"parameters": query_parameters(CountsQuery)}
        },
        "/v1/dead-letters/discard": {
            "post": _post(
                "discardDeadLetters",
                "Close every open dead letter that fits, unsent",
                "DiscardAllRequest",
                "Discarded",
                example={"error_classes": ["uncertain"], "reason": "the provider says that it sent them"},
            )
        },
        letter: {
            "get": _get("getDeadLetter", "One dead letter with its history", "LetterDetail", "not_found")
            | {"parameters": _letter()}
        },
        f"{letter}/edit": {
            "post": _post("editDeadLetter", "Correct what will be sent", "EditRequest", "LetterDetail", example=edit)
            | {"parameters": _letter()}
        },
        f"{letter}/discard": {
            "post": _post(
                "discardDeadLetter",
                "Close a dead letter, unsent",
                "DiscardRequest",
                "LetterDetail",
                example={"reason": "the customer has gone"},
            )
            | {"parameters": _letter()}
        },
    }


def _redrive_paths() -> Mapping[str, Json]:
    return {
        "/v1/redrives/plan": {
            "post": _post(
                "planRedrive",
                "Say what a redrive would do",
                "PlanRequest",
                "Plan",
                example={"error_classes": ["exhausted"]},
            )
        },
        "/v1/redrives": {"get": _get("listRedrives", "List redrives", "RedriveList"), "post": _begin()},
        "/v1/redrives/{plan}": {
            "get": _get("getRedrive", "How a redrive stands", "RedriveView", "not_found") | {"parameters": _plan()}
        },
        "/v1/redrives/{plan}/cancel": {
            "post": {
                **_get(
                    "cancelRedrive", "Stop a redrive", "CancelledRedrive", "not_found", "letter_refused", status=202
                ),
                "parameters": _plan(),
            }
        },
    }


def _get(operation: str, summary: str, schema: str, *codes: Code, status: int = 200) -> Json:
    every: tuple[Code, ...] = (*KEY_CODES, "invalid_parameter", "store_unavailable", *LOG_CODES, *codes)
    return {
        "operationId": operation,
        "summary": summary,
        "description": f"{summary}. {_ABOUT}",
        "security": [{"key": []}],
        "responses": {f"{status}": answer("It.", schema), **problems(every)},
    }


def _post(operation: str, summary: str, request: str, schema: str, *, example: Json) -> Json:
    return {
        "operationId": operation,
        "summary": summary,
        "description": f"{summary}. {_ABOUT}",
        "security": [{"key": []}],
        "requestBody": body(request, example=example),
        "responses": {
            "200": answer("It.", schema),
            **problems((*_CHANGE_CODES, "invalid_address", "store_unavailable")),
        },
    }


def _begin() -> Json:
    plan = {
        "id": "20260131-140000-0a1b",
        "made_at": "2026-01-31T14:00:00Z",
        "by": "an API key of shop",
        "selection": {"tenants": ["shop"]},
        "rules": {},
        "ends": {"webhook/0": 17},
        "counts": {"redrive": 3},
        "error_classes": {"exhausted": 3},
    }
    return {
        "operationId": "beginRedrive",
        "summary": "Carry a plan out",
        "description": "Carry a plan out: a canary, then at a rate, until it ends or is cancelled, whatever becomes of "
        f"this process. Begun again after that, the same plan goes on from where it stopped. {_ABOUT}",
        "security": [{"key": []}],
        "requestBody": body("RedriveRequest", example={"plan": plan, "reason": "the endpoint is mended"}),
        "responses": {
            "202": answer("It stands in the log.", "BegunRedrive"),
            **problems((*BODY_CODES, *KEY_CODES, "redrive_held", *LOG_CODES)),
        },
    }


def _letter() -> list[Json]:
    return [
        path_parameter("channel", "Such as `webhook`.", schema=_WORDS),
        path_parameter("partition", "Of its dead topic.", schema=_NUMBER),
        path_parameter("offset", "In the partition.", schema=_NUMBER),
    ]


def _plan() -> list[Json]:
    return [path_parameter("plan", "The plan's id.", schema=_WORDS)]
