"""Bodies that fit a JSON schema, and bodies that are damaged. Pure; randomness is passed in."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

import msgspec

_EXTREMES: Sequence[bytes] = (
    b"null",
    b"true",
    b"-1",
    b"1e400",
    b"1e-400",
    b"NaN",
    b"Infinity",
    b"9" * 400,
    b'""',
    b'"\\u0000"',
    b'"\\ud800"',
    b'"\xff\xfe"',
    b'"' + b"a" * 70_000 + b'"',
    b"[]",
    b"{}",
    b"[" * 2000 + b"]" * 2000,
    b'{"a":' * 500 + b"1" + b"}" * 500,
    b'"0001-01-01T00:00:00Z"',
    b'"9999-12-31T23:59:59.999999Z"',
    b'"9999-12-31T23:59:59.9999999-23:59"',
    b'"2026-12-31T23:59:60Z"',
    b'"\x1b[31mred\xe2\x80\xae"',
    b'"a\\n"',
    b'"../../etc/passwd"',
    b'"http://127.0.0.1:1/"',
    b'"{{ 7 * 7 }}"',
)


def example_of(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    """The least value that fits a schema of the OpenAPI document, its optional parts included once."""
    if "$ref" in schema:
        return example_of(components[schema["$ref"].rpartition("/")[2]], components)
    for key in ("const", "default", "example"):
        if schema.get(key) is not None:
            return schema[key]
    if schema.get("examples"):
        return schema["examples"][0]
    if schema.get("enum"):
        return schema["enum"][0]
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            # What can be null is more telling when it is not.
            told = [each for each in schema[key] if each.get("type") != "null"] or schema[key]
            return example_of(told[0], components)
    return _of_type(schema, components)


def _of_type(schema: Mapping[str, Any], components: Mapping[str, Any]) -> Any:
    match schema.get("type"):
        case "object":
            named = schema.get("properties", {})
            return {name: example_of(each, components) for name, each in named.items()}
        case "array":
            return [example_of(schema.get("items", {}), components) for _ in range(max(1, schema.get("minItems", 1)))]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case "string":
            return _text(schema)
        case _:
            return {}


def _text(schema: Mapping[str, Any]) -> str:
    formats = {"date-time": "2030-01-01T00:00:00Z", "uuid": "00000000-0000-4000-8000-000000000000"}
    least: int = max(1, schema.get("minLength", 1))
    return formats.get(schema.get("format", ""), "a" * least)


def damaged(body: bytes, random: Random) -> bytes:
    """The body with one to four damages: bytes changed, lost, doubled or added, or a value put in another's place."""
    for _ in range(random.randint(1, 4)):
        body = random.choice(_DAMAGES)(body, random)
    return body


def _flip(body: bytes, random: Random) -> bytes:
    at = random.randrange(len(body)) if body else 0
    return body[:at] + bytes([random.randrange(256)]) + body[at + 1 :]


def _cut(body: bytes, random: Random) -> bytes:
    first, last = sorted((random.randint(0, len(body)), random.randint(0, len(body))))
    return body[:first] + body[last:]


def _double(body: bytes, random: Random) -> bytes:
    first, last = sorted((random.randint(0, len(body)), random.randint(0, len(body))))
    return body[:last] + body[first:last] + body[last:]


def _insert(body: bytes, random: Random) -> bytes:
    at = random.randint(0, len(body))
    return body[:at] + random.choice(_EXTREMES) + body[at:]


def _exchange(body: bytes, random: Random) -> bytes:
    """Another value in the place of one, so that the rest is still read."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _insert(body, random)
    marker = "pabal-attack-marker"
    return msgspec.json.encode(_marked(value, marker, random)).replace(f'"{marker}"'.encode(), random.choice(_EXTREMES))


def _marked(value: Any, marker: str, random: Random) -> Any:
    """The value with a marker in the place of one of its parts."""
    if isinstance(value, dict) and value and random.random() < 0.9:
        name = random.choice(list(value))
        return {**value, name: _marked(value[name], marker, random)}
    if isinstance(value, list) and value and random.random() < 0.9:
        at = random.randrange(len(value))
        return [*value[:at], _marked(value[at], marker, random), *value[at + 1 :]]
    return marker


_DAMAGES: Sequence[Callable[[bytes, Random], bytes]] = (_flip, _cut, _double, _insert, _exchange, _exchange, _exchange)
