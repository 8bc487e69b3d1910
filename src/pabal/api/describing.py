"""The words of OpenAPI that every operation is described in: bodies, answers, problems, parameters."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from pabal.api.problems import KINDS, Code

Json = dict[str, Any]

BODY_CODES: Final[tuple[Code, ...]] = (
    "invalid_json",
    "body_timeout",
    "body_too_large",
    "unsupported_media_type",
    "nested_too_deeply",
    "invalid_field",
    "missing_field",
    "unknown_field",
)
KEY_CODES: Final[tuple[Code, ...]] = ("missing_key", "invalid_key", "insufficient_scope")
LOG_CODES: Final[tuple[Code, ...]] = ("log_unavailable", "topics_missing")


PUBLIC: Final[list[Json]] = []
"""The `security` of an operation that needs no API key."""


def body(schema: str, *, example: Json) -> Json:
    """A JSON body by a schema of the document."""
    return {"required": True, "content": {"application/json": {"schema": ref(schema), "example": example}}}


def answer(description: str, schema: str) -> Json:
    """A JSON answer by a schema of the document."""
    return {"description": description, "content": {"application/json": {"schema": ref(schema)}}}


def problems(codes: Sequence[Code], *, schema: str = "Problem") -> Mapping[str, Json]:
    """One response per status, naming the codes that come with it."""
    by_status: dict[int, list[Code]] = {}
    for code in codes:
        by_status.setdefault(KINDS[code].status, []).append(code)
    return {str(status): _problem(status, sorted(names), schema=schema) for status, names in sorted(by_status.items())}


def _problem(status: int, codes: Sequence[Code], *, schema: str) -> Json:
    headers: Json = {}
    if status == 401:
        headers["WWW-Authenticate"] = {"description": "RFC 6750 §3.", "schema": {"type": "string"}}
    if status in (429, 503) or "not_recorded_yet" in codes:
        headers["Retry-After"] = {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
    return {
        "description": ", ".join(f"`{code}`" for code in codes),
        "headers": headers,
        "content": {"application/problem+json": {"schema": ref(schema)}},
    }


def ref(schema: str) -> Json:
    """A schema of the document by its name."""
    return {"$ref": f"#/components/schemas/{schema}"}


def path_parameter(name: str, description: str, *, schema: Json) -> Json:
    """A part of the path."""
    return {"name": name, "in": "path", "required": True, "description": description, "schema": schema}


def query_parameters(model: type[msgspec.Struct]) -> Sequence[Json]:
    """The fields of a query's model, each as a parameter."""
    _, components = msgspec.json.schema_components([model], ref_template="#/{name}")
    properties = components[model.__name__]["properties"]
    return [_query_parameter(name, schema) for name, schema in properties.items()]


def _query_parameter(name: str, schema: Json) -> Json:
    # "Nothing" in a query is the parameter's absence, so its null is not told.
    choices = [choice for choice in schema.get("anyOf", [schema]) if choice.get("type") != "null"]
    [own] = choices
    description = own.pop("description", None) or schema.get("description", "")
    if schema.get("default") is not None:
        own = {**own, "default": schema["default"]}
    return {"name": name, "in": "query", "required": False, "description": description, "schema": own}
