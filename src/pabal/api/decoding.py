"""From bytes to typed requests, and from a decoder's complaint to a problem with a path."""

import re
from typing import Final, TypeVar

import msgspec

from pabal.api.problems import Code, Refused, refuse_field
from pabal.choices import with_choices

_KEY: Final = re.compile(rb"[!-~]{1,255}")
_COMPLAINTS: Final[tuple[tuple[re.Pattern[str], Code], ...]] = (
    (re.compile(r"Object contains unknown field `(.*)`(; there are: .*)?", re.DOTALL), "unknown_field"),
    (re.compile(r"Object missing required field `(.*)`", re.DOTALL), "missing_field"),
)

T = TypeVar("T")


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, *, root: str = "$") -> T:
    """The typed value of a JSON text. `root` is where it stands in the request's body.

    Raises Refused: invalid_json, nested_too_deeply, invalid_field, missing_field, unknown_field. The decoder stops
    at the first thing that does not fit, so there is one path.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _misfit(with_choices(str(error), type_=decoder.type), root=root) from None
    except msgspec.DecodeError as error:
        raise Refused("invalid_json", str(error)) from None
    except UnicodeDecodeError as error:
        raise Refused("invalid_json", f"JSON is UTF-8, and this is not: {error.reason}") from None
    except RecursionError:
        raise Refused("nested_too_deeply", "the body is nested more deeply than can be read") from None


def read_idempotency_key(value: bytes, *, times: int) -> str:
    """The key in a header that occurs `times` times. Raises Refused: invalid_idempotency_key."""
    if times != 1:
        raise Refused("invalid_idempotency_key", f"the header occurs {times} times; which of the keys is meant?")
    if not _KEY.fullmatch(value):
        raise Refused("invalid_idempotency_key", _KEY_RULE)
    return value.decode("ascii")


def check_idempotency_key(value: str, *, path: str) -> str:
    """The key of a batch's item, under the header's rule. Raises Refused: invalid_idempotency_key."""
    if not _KEY.fullmatch(value.encode()):
        raise refuse_field("invalid_idempotency_key", path=path, message=_KEY_RULE)
    return value


_KEY_RULE: Final = "an idempotency key has 1 to 255 visible ASCII characters and no spaces; a UUID is a good one"


def _misfit(complaint: str, *, root: str) -> Refused:
    # msgspec says "what is wrong - at `$.a.b`" and leaves the place out at the root. What is wrong may quote the
    # caller, so the place is what follows the *last* separator.
    message, separator, place = complaint.rpartition(" - at `$")
    if not separator:
        message, place = complaint, ""
    path = root + place.removesuffix("`")
    for pattern, code in _COMPLAINTS:
        if named := pattern.fullmatch(message):
            word = f"there is no such field{named[2] or ''}" if code == "unknown_field" else "is required"
            return refuse_field(code, path=f"{path}.{named[1][:64]}", message=word)
    return refuse_field("invalid_field", path=path, message=message)
