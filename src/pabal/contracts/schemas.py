"""JSON Schemas of the records, from the types that encode and decode them. Pure."""

import inspect
from collections.abc import Collection
from typing import Any, Final

import msgspec

from pabal.channels.content import content_type
from pabal.channels.part import with_whole_models
from pabal.contracts.records import RECORDS, RecordType
from pabal.template import source_type

Json = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

OPEN_WORDS: Final = "x-extensible-enum"
"""In the place of `enum` where words may be added (the keyword of Zalando's RESTful API Guidelines, rule 112)."""


def describe_record(record: RecordType) -> Json:
    """The JSON Schema of a record's value, on its own."""
    components = describe_models([record], ref="#/$defs/{name}")
    top = components.pop(record.model.__name__)
    schema = {"$schema": DIALECT, "$id": f"https://pabal.dev/contracts/{record.file}", **top}
    return {**schema, "$defs": components} if components else schema


def describe_models(records: Collection[RecordType], *, ref: str) -> dict[str, Json]:
    """Schemas of these records and of all that they contain, by name; `ref` is how they refer to each other."""
    models = [record.model for record in records]
    _, components = msgspec.json.schema_components(models, ref_template=ref)
    components = with_whole_models(components, (content_type(), source_type()), ref_template=ref)
    for record in records:
        properties = components[record.model.__name__]["properties"]
        for name in record.open_words:
            words = properties[name].pop("enum")
            properties[name] = {"type": "string", OPEN_WORDS: words, **properties[name]}
    return {name: _tidy(schema) for name, schema in sorted(components.items())}


def describe_records() -> dict[str, Json]:
    """Every record's schema, by file name."""
    return {record.file: describe_record(record) for record in RECORDS.values()}


def _tidy(schema: Json) -> Json:
    """Descriptions as they read, without the source's indentation."""
    return {key: inspect.cleandoc(value) if key == "description" else value for key, value in schema.items()}
