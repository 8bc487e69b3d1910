"""The schemas of the OpenAPI document: made from the types, and put so that generated clients read them rightly.

msgspec gives each field its default. Generators of clients take a default for a promise that the field is there
(`openapi-typescript` then demands the field, also in a request). So the schemas have no defaults. In a request the
field is optional, and its description says the default. In an answer every field that is always sent is required.

Generators take an object without properties for an empty object. So a free object says that it may hold anything.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from inspect import cleandoc
from typing import Any, Final

import msgspec
from msgspec import inspect

from pabal.api.operation import Json
from pabal.channels.content import content_type
from pabal.channels.part import with_whole_models
from pabal.plan import content_request_type

_PREFIX = "#/components/schemas/"

PUBLIC_NAMES: Final[Mapping[str, str]] = {"AcceptedNotification": "Accepted", "LetterCounts": "Counts"}
"""Types that the document names otherwise than the code: generated clients name their types after the document's
components, so that a component keeps its name when its type gets another."""


def name_of(model: type[msgspec.Struct]) -> str:
    """The component that describes a type."""
    return PUBLIC_NAMES.get(model.__name__, model.__name__)


def reference(model: type[msgspec.Struct]) -> Json:
    """A reference to the component that describes a type."""
    return {"$ref": f"{_PREFIX}{name_of(model)}"}


def describe_models(models: Sequence[type[msgspec.Struct]], *, paths: Mapping[str, Json]) -> dict[str, Json]:
    """The schemas of `models`, and of the types that they hold, by name. `paths` say which of them are requests."""
    whole = (content_type(), content_request_type())
    ref_template = f"{_PREFIX}{{name}}"
    _, described = msgspec.json.schema_components(models, ref_template=ref_template)
    described = with_whole_models(described, whole, ref_template=ref_template)
    components = {PUBLIC_NAMES.get(name, name): _renamed(schema) for name, schema in described.items()}
    asked = _reached(_bodies(paths), components)
    sparing = {name_of(model) for model in _structs([*models, *whole]) if model.__struct_config__.omit_defaults}
    _open(list(components.values()))
    for name, schema in components.items():
        if name in asked:
            _describe_defaults(schema)
        else:
            _promise(schema, is_sparing=name in sparing)
    return components


def _describe_defaults(schema: Json) -> None:
    """In a request: the default is part of the description."""
    for rule in schema.get("properties", {}).values():
        default = rule.pop("default", None)
        if isinstance(default, str | int | float):
            said = f"By default `{default if isinstance(default, str) else msgspec.json.encode(default).decode()}`."
            rule["description"] = f"{rule.get('description', '')} {said}".lstrip()


def _promise(schema: Json, *, is_sparing: bool) -> None:
    """In an answer: a field that is always sent is required. `is_sparing`: the type leaves defaults out."""
    properties = schema.get("properties", {})
    for rule in properties.values():
        rule.pop("default", None)
    if properties and not is_sparing:
        schema["required"] = list(properties)


def _open(part: Any) -> None:
    """Free objects may hold anything."""
    match part:
        case dict():
            if part.get("type") == "object" and "properties" not in part:
                part.setdefault("additionalProperties", True)
            for inner in part.values():
                _open(inner)
        case list():
            for inner in part:
                _open(inner)


def _bodies(paths: Mapping[str, Json]) -> Iterator[Any]:
    return (each.get("requestBody") for methods in paths.values() for each in methods.values())


def _reached(start: Any, components: Mapping[str, Json]) -> Collection[str]:
    """The components that are referred to from `start`, directly or through other components."""
    reached: set[str] = set()
    waiting = list(_references(list(start)))
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += _references(components[name])
    return reached


def _references(part: Any) -> Iterator[str]:
    match part:
        case dict():
            if "$ref" in part:
                yield part["$ref"].removeprefix(_PREFIX)
            for inner in part.values():
                yield from _references(inner)
        case list() | tuple():
            for inner in part:
                yield from _references(inner)


def _renamed(part: Any) -> Any:
    """The schema with references to components by their public names, and with public titles."""
    match part:
        case {"$ref": ref}:
            name = ref.removeprefix(_PREFIX)
            return {**part, "$ref": f"{_PREFIX}{PUBLIC_NAMES.get(name, name)}"}
        case dict():
            return {
                key: _public(key, inner) if isinstance(inner, str) else _renamed(inner) for key, inner in part.items()
            }
        case list():
            return [_renamed(inner) for inner in part]
        case _:
            return part


def _public(key: str, text: str) -> str:
    """A text of a schema: a title by its public name, a docstring without the indentation that it has in the code."""
    match key:
        case "title":
            return PUBLIC_NAMES.get(text, text)
        case "description":
            return cleandoc(text)  # Python does so itself from 3.13 on.
        case _:
            return text


def _structs(models: Sequence[type[msgspec.Struct]]) -> Collection[type[msgspec.Struct]]:
    """The types behind the schemas."""
    found: set[type[msgspec.Struct]] = set()
    waiting: list[Any] = list(inspect.multi_type_info(models))
    while waiting:
        each = waiting.pop()
        match each:
            case inspect.StructType(cls=cls, fields=fields) if cls not in found:
                found.add(cls)
                waiting += [field.type for field in fields]
            case inspect.UnionType(types=types):
                waiting += types
            case inspect.Metadata(type=inner) | inspect.CollectionType(item_type=inner):
                waiting.append(inner)
            case inspect.VarTupleType(item_type=inner) | inspect.DictType(value_type=inner):
                waiting.append(inner)
    return found
