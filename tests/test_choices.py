from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import pytest

from pabal.choices import with_choices

Colour = Literal["red", "green"]


class Inner(msgspec.Struct):
    colour: Annotated[Colour, msgspec.Meta(description="which")] | None = None


class Outer(msgspec.Struct):
    class_: Colour = msgspec.field(name="class", default="red")
    many: Sequence[Inner] = ()
    by_name: Mapping[str, Inner] = {}
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


@pytest.mark.parametrize("complaint", ["Expected `int`, got `str` - at `$.number`", "Invalid enum value 3 - at `$.x`"])
def test_any_other_complaint_is_left_as_it_is(complaint: str) -> None:
    assert with_choices(complaint, type_=Outer) == complaint
