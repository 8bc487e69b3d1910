"""The content with the part of every installed channel: how records, requests and templates are read. Pure.

The models of records and requests say where a content stands, and hold its generic parts alone. The parts of the
channels are added when a content is first read or written: a channel may come from any package, and its package
imports those models.
"""

import functools
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, cast

import msgspec

from pabal.channels.part import ContentPart, requested_model, whole_model
from pabal.channels.registry import installed_channels
from pabal.notification import Content, Delivery, Fact

S = TypeVar("S", bound=msgspec.Struct)


@functools.cache
def installed_parts() -> Mapping[str, ContentPart]:
    """What each channel alone says, by the channel; channels without a part are left out."""
    return {name: channel.part for name, channel in installed_channels().items() if channel.part is not None}


@functools.cache
def content_type() -> type[Content]:
    """`Content` with every part."""
    return whole_model(Content, {name: part.model | None for name, part in installed_parts().items()})


def make_content(
    *,
    title: str | None = None,
    body: str | None = None,
    data: dict[str, Any] | None = None,
    parts: Mapping[str, Fact],
) -> Content:
    """A content; `parts` are what single channels say, by the channel: structs that the channels declare."""
    if not parts:
        return Content(title=title, body=body, data=data)
    return content_type()(title=title, body=body, data=data, **parts)


def requested_content_type(base: type[S], *, part_base: type[msgspec.Struct]) -> type[S]:
    """A request's content with every part. `base` holds the generic parts; each channel's part is a `part_base`."""
    models = {
        name: Annotated[
            requested_model(part, base=part_base) | None, msgspec.Meta(description=f"For {part.medium} alone.")
        ]
        for name, part in installed_parts().items()
    }
    return whole_model(base, models)


def with_content(model: type[S], content: type[msgspec.Struct]) -> type[S]:
    """`model` for a decoder: a content that stands in it is read as `content`. What is read is a `model`."""
    generic: Any = model
    return cast("type[S]", generic[content])


@functools.cache
def delivery_type() -> type[Delivery]:
    """`Delivery` for a decoder: its content has every part."""
    return with_content(Delivery, content_type())
