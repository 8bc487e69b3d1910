"""What the attacks on bodies are made of."""

from random import Random

import msgspec
from attack.bodies import operations_of
from attack.examples import damaged, example_of

from tests.api.lab import Lab


async def test_every_operation_of_the_document_is_attacked_with_a_body_where_it_takes_one() -> None:
    document = (await Lab().get("/openapi.json")).json

    operations = list(operations_of(document))

    told = {
        f"{method.upper()} {path}"
        for path, each in document["paths"].items()
        for method in each
        if method != "parameters"
    }
    with_body = sum("requestBody" in each[method] for each in document["paths"].values() for method in each)
    assert len(operations) == len(told)
    assert sum(operation.body is not None for operation in operations) == with_body
    assert not [operation.path for operation in operations if "{" in operation.path]


def test_an_example_has_every_property_of_its_schema() -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 3},
            "kind": {"enum": ["a", "b"]},
            "at": {"anyOf": [{"type": "null"}, {"type": "string", "format": "date-time"}]},
            "items": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
        },
    }

    example = example_of(schema, {"Item": {"type": "integer", "minimum": 5}})

    assert example == {"name": "aaa", "kind": "a", "at": "2030-01-01T00:00:00Z", "items": [5]}


def test_damages_of_one_seed_are_the_same_and_most_of_them_change_the_body() -> None:
    body = msgspec.json.encode({"to": [{"channel": "email", "address": "ana@example.com"}], "tags": ["a"]})

    first, second = ([damaged(body, Random(seed)) for seed in range(200)] for _ in range(2))

    assert first == second
    assert sum(each != body for each in first) > 180
    assert any(_is_read(each) for each in first if each != body)


def _is_read(body: bytes) -> bool:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
