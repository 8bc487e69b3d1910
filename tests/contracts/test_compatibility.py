"""What may change in a record, and what may not."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from pabal.contracts.__main__ import all_files
from pabal.contracts.asyncapi import describe_topics
from pabal.contracts.compatibility import Break, compare_schemas, find_breaks
from pabal.contracts.records import RECORDS
from pabal.contracts.schemas import describe_record, describe_records

Json = dict[str, Any]

BEFORE: Json = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Thing",
    "description": "A thing.",
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "class": {"enum": ["critical", "bulk"]},
        "kind": {"type": "string", "x-extensible-enum": ["sent", "parked"]},
        "attempt": {"type": "integer", "minimum": 0, "default": 1},
        "due": {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}], "default": None},
        "content": {"anyOf": [{"$ref": "#/$defs/Content"}, {"type": "null"}], "default": None},
        "tags": {"type": "array", "items": {"type": "string"}, "default": []},
        "payload": {},
    },
    "required": ["id", "class", "kind"],
    "$defs": {
        "Content": {
            "type": "object",
            "properties": {"title": {"type": "string", "minLength": 1}, "parts": {"$ref": "#/$defs/Content"}},
            "required": ["title"],
        }
    },
}

Change = Callable[[Json], object]


def after(change: Change) -> Json:
    changed = copy.deepcopy(BEFORE)
    change(changed)
    return changed


@pytest.mark.parametrize(
    "change",
    [
        lambda s: None,
        lambda s: s.update(title="Other", description="In other words."),
        lambda s: s["properties"].update(provider={"type": "string", "default": ""}),
        lambda s: s["properties"]["kind"]["x-extensible-enum"].append("scheduled"),
        lambda s: s["$defs"]["Content"]["properties"].update(body={"type": "string"}),
        lambda s: s["$defs"].update(Unused={"type": "object"}),
        lambda s: s["properties"]["attempt"].update(description="How many."),
        lambda s: s["properties"]["class"].update(enum=["bulk", "critical"]),
    ],
)
def test_what_nobody_must_know_may_be_added(change: Change) -> None:
    assert compare_schemas(BEFORE, after(change)) == []


@pytest.mark.parametrize(
    ("change", "path", "word"),
    [
        (lambda s: s["properties"].pop("tags"), "$.tags", "gone"),
        (lambda s: s["$defs"]["Content"]["properties"].pop("parts"), "$.content.parts", "gone"),
        (lambda s: s["required"].append("attempt"), "$.attempt", "required now"),
        (
            lambda s: (s["properties"].update(new={"type": "string"}), s["required"].append("new")),
            "$.new",
            "required now",
        ),
        (lambda s: s["required"].remove("class"), "$.class", "may be left out"),
        (lambda s: s["$defs"]["Content"].update(required=[]), "$.content.title", "may be left out"),
        (lambda s: s["properties"]["attempt"].update(type="number"), "$.attempt", "narrower"),
        (lambda s: s["properties"]["attempt"].update(type=["integer", "string"]), "$.attempt", "wider"),
        (lambda s: s["properties"]["due"]["anyOf"].pop(), "$.due", "no longer be null"),
        (
            lambda s: s["properties"].update(id={"anyOf": [s["properties"]["id"], {"type": "null"}]}),
            "$.id",
            "may now be null",
        ),
        (lambda s: s["properties"]["id"].pop("format"), "$.id", "format"),
        (lambda s: s["properties"]["due"]["anyOf"][0].update(format="date"), "$.due", "format"),
        (lambda s: s["properties"]["attempt"].update(minimum=1), "$.attempt", "minimum"),
        (lambda s: s["properties"]["attempt"].update(maximum=10), "$.attempt", "maximum"),
        (lambda s: s["$defs"]["Content"]["properties"]["title"].pop("minLength"), "$.content.title", "minLength"),
        (lambda s: s["properties"]["attempt"].update(default=0), "$.attempt", "another default"),
        (lambda s: s["properties"]["attempt"].pop("default"), "$.attempt", "another default"),
        (lambda s: s["properties"]["class"]["enum"].remove("bulk"), "$.class", "`bulk` is gone"),
        (lambda s: s["properties"]["class"]["enum"].append("urgent"), "$.class", "`urgent` is new"),
        (lambda s: s["properties"]["kind"]["x-extensible-enum"].remove("parked"), "$.kind", "`parked` is gone"),
        (
            lambda s: s["properties"].update(kind={"enum": ["sent", "parked"]}),
            "$.kind",
            "were open and are a closed set",
        ),
        (lambda s: s["properties"].update({"class": {"type": "string"}}), "$.class", "are any"),
        (lambda s: s["properties"]["tags"].update(items={"type": "integer"}), "$.tags[]", "narrower"),
        (lambda s: s["properties"].update(payload={"type": "object"}), "$.payload", "no longer be anything"),
        (lambda s: s.update(additionalProperties=False), "$", "additionalProperties"),
    ],
)
def test_what_old_records_or_old_readers_do_not_fit_is_named_with_its_path(
    change: Change, path: str, word: str
) -> None:
    breaks = compare_schemas(BEFORE, after(change))

    assert [each.path for each in breaks if word in each.message] == [path], breaks


def test_a_record_that_is_gone_breaks() -> None:
    assert find_breaks({"thing-1.json": BEFORE}, {}) == [
        Break("thing-1.json", "is gone; its records are still in the log")
    ]


def test_a_break_reads_as_one_line_with_its_path() -> None:
    [found] = find_breaks({"thing-1.json": BEFORE}, {"thing-1.json": after(lambda s: s["properties"].pop("tags"))})

    assert str(found) == "thing-1.json: $.tags: is gone; old readers look for it, old records carry it"


def test_a_record_that_is_new_does_not() -> None:
    assert find_breaks({}, {"thing-1.json": BEFORE}) == []


@pytest.mark.parametrize(
    ("change", "path"),
    [
        (lambda d: d["channels"].pop("audit"), "asyncapi.json: pabal.audit"),
        (lambda d: d["channels"]["events"].update(address="pabal.happened"), "asyncapi.json: pabal.events"),
        (
            lambda d: (d["channels"]["audit"]["messages"].clear(), d["components"]["messages"].pop("auditFact")),
            "asyncapi.json: pabal.audit",
        ),
        (lambda d: d["channels"]["events"]["messages"].pop("receipt"), "asyncapi.json: pabal.events"),
        (
            lambda d: d["components"]["messages"]["deliveryEvent"]["headers"]["properties"].pop("ce_time"),
            "asyncapi.json: deliveryEvent.headers.ce_time",
        ),
        (
            lambda d: d["components"]["messages"]["deadLetter"]["headers"]["required"].remove("x-error-class"),
            "asyncapi.json: deadLetter.headers.x-error-class",
        ),
        (
            lambda d: d["components"]["messages"]["receipt"]["bindings"]["kafka"]["key"].update(description="Other"),
            "asyncapi.json: receipt.key",
        ),
        (
            lambda d: d["components"]["messages"]["delivery"].update(payload={"type": "null"}),
            "asyncapi.json: delivery.value",
        ),
    ],
)
def test_topics_keys_and_headers_are_held_to_as_well(change: Change, path: str) -> None:
    old = describe_topics(version="1")
    new = copy.deepcopy(old)
    change(new)

    assert [each.path for each in find_breaks({"asyncapi.json": old}, {"asyncapi.json": new})] == [path]


REAL = [(record.file, name) for record in RECORDS.values() for name in describe_record(record)["properties"]]


@pytest.mark.parametrize(("file", "name"), REAL)
def test_no_field_of_a_real_record_can_go_be_demanded_or_be_of_another_type_unseen(file: str, name: str) -> None:
    old = describe_records()[file]

    def breaks_when(change: Change) -> list[str]:
        new = copy.deepcopy(old)
        change(new)
        return [each.path for each in compare_schemas(old, new)]

    assert breaks_when(lambda s: s["properties"].pop(name)) == [f"$.{name}"]
    assert set(breaks_when(lambda s: s["properties"].update({name: {"type": "boolean", "const": True}}))) == {
        f"$.{name}"
    }
    if name in old["required"]:
        assert breaks_when(lambda s: s["required"].remove(name)) == [f"$.{name}"]
    else:
        assert breaks_when(lambda s: s["required"].append(name)) == [f"$.{name}"]


def test_the_real_contracts_are_compatible_with_themselves() -> None:
    documents = {name: json.loads(text) for name, text in all_files().items()}

    assert find_breaks(documents, documents) == []
