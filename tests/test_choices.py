from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import pytest

from pabal.choices import with_choices

Colour = Literal["red", "green"]


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    colour: Annotated[Colour, msgspec.Meta(description="which")] | None = None
    size: int = 0


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    class_: Colour = msgspec.field(name="class", default="red")
    many: Sequence[Inner] = ()
    by_name: Mapping[str, Inner] = {}
    by_colour: Mapping[Colour, int] = {}
    one: Inner | None = None
    number: int = 0


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"class": "blue"}, "$.class"),
        ({"many": [{}, {"colour": "blue"}]}, "$.many[1].colour"),
        ({"by_name": {"a.b": {"colour": "blue"}}}, "$.by_name[...].colour"),
    ],
)
def test_a_wrong_word_is_told_with_those_there_are(value: Any, place: str) -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert(value, Outer)

    told = with_choices(str(raised.value), type_=Outer)

    assert told == f"Invalid enum value 'blue'; there are: green, red - at `{place}`"


def test_a_wrong_word_at_the_root_has_no_place() -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert("blue", Colour)

    assert with_choices(str(raised.value), type_=Colour) == "Invalid enum value 'blue'; there are: green, red"


def test_a_wrong_key_of_a_table_is_told_with_those_there_are() -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert({"by_colour": {"blue": 1}}, Outer)

    told = with_choices(str(raised.value), type_=Outer)

    assert told == "Invalid enum value 'blue'; there are: green, red - at `key` in `$.by_colour`"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"klass": 1}, "`klass`; there are: class, many, by_name, by_colour, one, number"),
        ({"one": {"color": 1}}, "`color`; there are: colour, size - at `$.one`"),
        ({"many": [{}, {"color": 1}]}, "`color`; there are: colour, size - at `$.many[1]`"),
        ({"by_name": {"a.b": {"color": 1}}}, "`color`; there are: colour, size - at `$.by_name[...]`"),
        ({"a`b": 1}, "`a`b`; there are: class, many, by_name, by_colour, one, number"),
    ],
)
def test_an_unknown_field_is_told_with_those_there_are(value: Any, told: str) -> None:
    with pytest.raises(msgspec.ValidationError) as raised:
        msgspec.convert(value, Outer)

    assert with_choices(str(raised.value), type_=Outer) == f"Object contains unknown field {told}"


@pytest.mark.parametrize("complaint", ["Expected `int`, got `str` - at `$.number`", "Invalid enum value 3 - at `$.x`"])
def test_any_other_complaint_is_left_as_it_is(complaint: str) -> None:
    assert with_choices(complaint, type_=Outer) == complaint
