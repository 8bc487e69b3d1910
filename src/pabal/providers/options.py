"""Reads a provider's table of the configuration into a typed value, naming the setting that is wrong."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from pabal.choices import with_choices
from pabal.errors import ConfigError


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a provider's options: one field per setting, with its default; unknown settings are errors.

    Bounds go into the type: `Annotated[float, msgspec.Meta(gt=0, le=60)]`.
    """


T = TypeVar("T", bound=Options)


def read_options(options: Mapping[str, Any], type_: type[T], *, path: str) -> T:
    """Turn a table (from TOML) into `type_`. `path` says where the table stands, such as `$.providers.webhook`.

    Raises ConfigError whose message starts with the path of the setting that is wrong. What an options type checks
    itself (a ValueError out of its `__post_init__`) is reported the same way, under the table's own path.
    """
    unknown = sorted(options.keys() - {field.encode_name for field in msgspec.structs.fields(type_)})
    if unknown:
        known = ", ".join(field.encode_name for field in msgspec.structs.fields(type_))
        raise ConfigError(f"{path}.{unknown[0]}: unknown setting; there are: {known}")
    try:
        return msgspec.convert(dict(options), type_)
    except msgspec.ValidationError as error:
        # msgspec says "what is wrong - at `$.a.b`", and leaves the path out for the root.
        problem, _, inner = with_choices(str(error), type_=type_).partition(" - at ")
        raise ConfigError(f"{path}{inner.strip('`').removeprefix('$')}: {problem}") from None
