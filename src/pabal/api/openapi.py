"""The API described to machines: an OpenAPI 3.1 document, made from the operations that really decode and encode."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec
from starlette.routing import compile_path

from pabal.api.codes import KEY_CODES, KINDS, Code
from pabal.api.operation import Json, Operation, Part, Success
from pabal.api.problems import Problem
from pabal.api.schemas import describe_models, reference

_ABOUT: Final = """Pabal accepts notifications, keeps them in a log, sends them (by e-mail, by webhook), and tells
what happened to them. A 202 means that every delivery stands in the log. Every error is a problem document (RFC 9457)
with a stable `code`.

What breaks a bound of HTTP is refused before any operation, and the connection closed: `head_too_large` (431),
`head_timeout` (408), `malformed_request`, `repeated_field`, `trailers_refused` (400), `too_many_connections` (503)."""

_TRACE_FIELDS: Final[Mapping[str, Part]] = {
    "traceparent": Part(
        description="The trace that the deliveries belong to (W3C Trace Context). A malformed one counts as none.",
        schema={"type": "string"},
    ),
    "tracestate": Part(
        description="Goes with `traceparent` (W3C Trace Context), up to 512 characters. "
        "A malformed one counts as none.",
        schema={"type": "string"},
    ),
}
"""What every operation takes that continues a trace."""


def describe_api(operations: Sequence[Operation[Any, Any]], *, channels: Collection[str]) -> Json:
    """The document for an installation with these channels."""
    paths: dict[str, Json] = {}
    for operation in _by_resource(operations):
        paths.setdefault(_path(operation), {})[operation.method.lower()] = _describe(operation)
    components = describe_models(list(_models(operations)), paths=paths)
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


def _by_resource(operations: Sequence[Operation[Any, Any]]) -> Sequence[Operation[Any, Any]]:
    """The operations of one resource (`/v1/deliveries…`) stand together, in the order of the first of each."""
    resources = [operation.path.split("/")[:3] for operation in operations]
    return sorted(operations, key=lambda operation: resources.index(operation.path.split("/")[:3]))


def _path(operation: Operation[Any, Any]) -> str:
    """As OpenAPI spells it: without Starlette's converters."""
    _, spelt, _ = compile_path(operation.path)
    return spelt


def _describe(operation: Operation[Any, Any]) -> Json:
    described: Json = {"operationId": operation.name, "summary": operation.summary}
    if operation.about is not None:
        described["description"] = operation.about
    described["security"] = [] if operation.scope is None else [{"key": []}]
    if parameters := _parameters(operation):
        described["parameters"] = parameters
    if (body := operation.body) is not None:
        schema = {"type": "object", "additionalProperties": True} if body.model is None else reference(body.model)
        content = {"application/json": {"schema": schema, "example": body.example}}
        described["requestBody"] = {"required": True, "content": content}
    described["responses"] = {
        **{str(status): _success(answer) for status, answer in operation.answers.items()},
        **_problems(operation),
    }
    return described


def _parameters(operation: Operation[Any, Any]) -> list[Json]:
    fields = {**operation.headers, **(_TRACE_FIELDS if operation.is_traced else {})}
    return [
        *(_parameter(name, part, place="path") for name, part in operation.parts.items()),
        *(_parameter(name, part, place="header") for name, part in fields.items()),
        *(() if operation.query is None else _query_parameters(operation.query)),
    ]


def _parameter(name: str, part: Part, *, place: str) -> Json:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": part.description,
        "schema": part.schema,
    }


def _query_parameters(model: type[msgspec.Struct]) -> Iterator[Json]:
    """The fields of a query's model, each as a parameter."""
    _, components = msgspec.json.schema_components([model], ref_template="#/{name}")
    for name, schema in components[model.__name__]["properties"].items():
        # "Nothing" in a query is the parameter's absence, so its null is not told.
        [own] = [choice for choice in schema.get("anyOf", [schema]) if choice.get("type") != "null"]
        description = own.pop("description", None) or schema.get("description", "")
        if schema.get("default") is not None:
            own = {**own, "default": schema["default"]}
        yield {"name": name, "in": "query", "required": False, "description": description, "schema": own}


def _success(answer: Success) -> Json:
    content = {} if answer.model is None else {"application/json": {"schema": reference(answer.model)}}
    content |= {media_type: {"schema": schema} for media_type, schema in answer.others.items()}
    described: Json = {"description": answer.description, "content": content}
    if answer.headers:
        described["headers"] = {
            name: {"description": field.description, "schema": field.schema} for name, field in answer.headers.items()
        }
    return described


def _codes(operation: Operation[Any, Any]) -> Collection[Code]:
    """Every code that a request of the operation may be answered with."""
    of_key = () if operation.scope is None else KEY_CODES
    of_query: tuple[Code, ...] = () if operation.query is None else ("invalid_parameter",)
    of_body = () if operation.body is None else operation.body.codes
    return {*operation.codes, *of_key, *of_query, *of_body}


def _problems(operation: Operation[Any, Any]) -> Mapping[str, Json]:
    """One response per status, with the codes that have it."""
    by_status: dict[int, list[Code]] = {}
    for code in sorted(_codes(operation)):
        by_status.setdefault(KINDS[code].status, []).append(code)
    return {
        str(status): _problem(status, codes, model=_model(operation, codes))
        for status, codes in sorted(by_status.items())
    }


def _model(operation: Operation[Any, Any], codes: Sequence[Code]) -> type[Problem]:
    return next((operation.problems[code] for code in codes if code in operation.problems), Problem)


def _problem(status: int, codes: Sequence[Code], *, model: type[Problem]) -> Json:
    headers: Json = {}
    if status == 401:
        headers["WWW-Authenticate"] = {"description": "RFC 6750 §3.", "schema": {"type": "string"}}
    if status in (429, 503) or "not_recorded_yet" in codes:
        headers["Retry-After"] = {"description": "Seconds.", "schema": {"type": "string", "pattern": "^[0-9]+$"}}
    return {
        "description": ", ".join(f"`{code}`" for code in codes),
        "headers": headers,
        "content": {"application/problem+json": {"schema": reference(model)}},
    }


def _models(operations: Sequence[Operation[Any, Any]]) -> Iterator[type[msgspec.Struct]]:
    """What the operations take and answer, in their order."""
    for operation in operations:
        if operation.body is not None and operation.body.model is not None:
            yield operation.body.model
        for answer in operation.answers.values():
            if answer.model is not None:
                yield answer.model
        yield Problem
        yield from operation.problems.values()
