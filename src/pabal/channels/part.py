"""A channel's part of the content: declared once by the channel, and every model of it is made from that. Pure.

The channel declares a struct (`EmailContent`): its part as records hold it. Two more models follow from the struct's
fields: what callers may write (a field that is not known is an error, not a newer version's), and what templates say
(every field is a text with blanks). Where a model holds the parts of all channels, it is a subclass of the model that
holds the generic parts, with one field more for each channel.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeVar, get_args, get_origin

import msgspec

from pabal.notification import Fact

Text = Annotated[str, msgspec.Meta(min_length=1)] | None
"""A part of a template, in its source."""

SUFFIX: Final = "Content"
"""What a part's struct is named with; the rest of its name is the channel's, and names the other models."""

S = TypeVar("S", bound=msgspec.Struct)


class PartField(msgspec.Struct, frozen=True):
    """What is to be known of one field, as a note in its annotation: `Annotated[str | None, PartField("…")]`.

    `about` is for callers. `blanks` says what a template makes of the field: a text, a text of HTML whose blanks are
    escaped, or JSON. `is_required`: a request that has the part has the field (a record may still lack it).
    """

    about: str
    blanks: Literal["text", "html", "json"] = "text"
    is_required: bool = False


class ContentPart(msgspec.Struct, frozen=True, kw_only=True):
    """What one channel alone says, beside the generic parts of `pabal.notification.Content`.

    `model` is the part as it stands in records: a frozen struct named `…Content`, each of whose fields has the default
    None and a `PartField`. The texts are for the documents that are made from it: `medium` completes "For … alone.",
    `asked` describes the part in a request, `source` in a template.
    """

    model: type[Fact]
    medium: str
    asked: str
    source: str

    @property
    def fields(self) -> Mapping[str, PartField]:
        """The note on each field of `model`, by the field's name. Raises TypeError: `model` is no such struct."""
        return _notes(self.model)

    @property
    def free_fields(self) -> Sequence[str]:
        """The names of the fields that hold more than a text, and so may be nested."""
        return _free_fields(self.model)


class _Field(msgspec.Struct, frozen=True):
    allows: Any
    note: PartField


@functools.cache
def _fields(model: type[Fact]) -> Mapping[str, _Field]:
    if not (issubclass(model, Fact) and model.__name__.endswith(SUFFIX) and model.__name__ != SUFFIX):
        raise TypeError(f"{model.__name__} is not a struct of pabal.notification.Fact named …{SUFFIX}")
    return {field.name: _field(model, field) for field in msgspec.structs.fields(model)}


def _field(model: type[Fact], field: msgspec.structs.FieldInfo) -> _Field:
    bare, *notes = get_args(field.type) if get_origin(field.type) is Annotated else (field.type,)
    note = next((each for each in notes if isinstance(each, PartField)), None)
    if note is None or field.default is not None:
        raise TypeError(f"{model.__name__}.{field.name} needs a PartField in its annotation, and the default None")
    rest = [each for each in notes if each is not note]
    return _Field(allows=Annotated[bare, *rest] if rest else bare, note=note)


@functools.cache
def _notes(model: type[Fact]) -> Mapping[str, PartField]:
    return {name: each.note for name, each in _fields(model).items()}


@functools.cache
def _free_fields(model: type[Fact]) -> Sequence[str]:
    return tuple(name for name, each in _fields(model).items() if each.allows != str | None)


@functools.cache
def requested_model(part: ContentPart, *, base: type[S]) -> type[S]:
    """The part as callers write it: a `base` (which refuses unknown fields) with the fields of the part."""
    annotated: Any = Annotated
    fields: list[Any] = []
    for name, field in _fields(part.model).items():
        described = annotated[field.allows, msgspec.Meta(description=field.note.about)]
        fields.append((name, described) if field.note.is_required else (name, described, None))
    return _define(f"Requested{_stem(part)}", fields, base=base, about=part.asked)


@functools.cache
def source_model(part: ContentPart, *, base: type[S]) -> type[S]:
    """The part as templates say it: a `base` with a text for each field."""
    fields = [(name, Text, None) for name in _fields(part.model)]
    return _define(f"{_stem(part)}Source", fields, base=base, about=part.source)


def whole_model(base: type[S], parts: Mapping[str, Any]) -> type[S]:
    """`base`, which holds the generic parts, with a field more for each channel: `parts` says the fields' types."""
    fields = [(name, type_, None) for name, type_ in parts.items()]
    return _define(base.__name__, fields, base=base, about=base.__doc__ or "")


def with_whole_models(
    components: Mapping[str, Any], whole: Sequence[type[msgspec.Struct]], *, ref_template: str
) -> dict[str, Any]:
    """JSON Schemas by name, in which a model with every part takes the place of the model of its name without parts."""
    by_name = {model.__name__: model for model in whole}
    described: dict[str, Any] = {}
    for name, schema in components.items():
        if name in by_name:
            described |= msgspec.json.schema_components([by_name[name]], ref_template=ref_template)[1]
        else:
            described.setdefault(name, schema)
    return described


def _stem(part: ContentPart) -> str:
    return part.model.__name__.removesuffix(SUFFIX)


def _define(name: str, fields: Sequence[Any], *, base: type[S], about: str) -> type[S]:
    made: Any = msgspec.defstruct(
        name, fields, bases=(base,), kw_only=True, module=base.__module__, namespace={"__doc__": about}
    )
    return made  # type: ignore[no-any-return]
