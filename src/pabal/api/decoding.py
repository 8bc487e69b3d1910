"""From bytes to typed requests, and from a decoder's complaint to a problem with a path."""

import re
from typing import Any, Final, TypeVar

import msgspec

from pabal.api.codes import Code
from pabal.api.problems import RequestRefused, refuse_field
from pabal.choices import with_choices

_KEY: Final = re.compile(rb"[!-~]{1,255}")
_COMPLAINTS: Final[tuple[tuple[re.Pattern[str], Code], ...]] = (
    (re.compile(r"Object contains unknown field `(.*)`(; there are: .*)?", re.DOTALL), "unknown_field"),
    (re.compile(r"Object missing required field `(.*)`", re.DOTALL), "missing_field"),
)

_LAST_INSTANT: Final = re.compile(rb"9999-12-31[Tt ][0-9:]{8}\.9{7}")
_TOO_FINE: Final = re.compile(r"\A([0-9-]{10}[Tt ][0-9:]{8}\.[0-9]{6})[0-9]+")
_BAD_TIME: Final = re.compile(r"Invalid RFC3339 encoded datetime - at `\$\.([a-z_.]+)`")

T = TypeVar("T")


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, *, root: str = "$") -> T:
    """The typed value of a JSON text. `root` is where it stands in the request's body.

    Raises RequestRefused: invalid_json, nested_too_deeply, invalid_field, missing_field, unknown_field. The decoder
    stops at the first thing that does not fit, so there is one path.
    """
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError as error:
            if not (_BAD_TIME.fullmatch(str(error)) and _LAST_INSTANT.search(body)):
                raise
            return _decode_last_instants(decoder, body)
    except msgspec.ValidationError as error:
        raise _misfit(with_choices(str(error), type_=decoder.type), root=root) from None
    except msgspec.DecodeError as error:
        raise RequestRefused("invalid_json", str(error)) from None
    except UnicodeDecodeError as error:
        raise RequestRefused("invalid_json", f"JSON is UTF-8, and this is not: {error.reason}") from None
    except RecursionError:
        raise RequestRefused("nested_too_deeply", "the body is nested more deeply than can be read") from None


def at_most_microseconds(text: str) -> str:
    """A time cut to microseconds. msgspec rounds up, and so takes the last instants of .NET and Go ("never") past the
    calendar's end, where there are no times."""
    return _TOO_FINE.sub(r"\1", text)


def _decode_last_instants(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw) -> T:
    """As `decode`, for a body with a time so near the calendar's end that it cannot be rounded up. Such a time is cut.

    What stands elsewhere stays as it is, so each time is cut where the decoder complains of it.
    """
    value: Any = msgspec.json.decode(body)
    while True:
        try:
            return msgspec.convert(value, decoder.type)
        except msgspec.ValidationError as error:
            if not _cut(value, str(error)):
                raise


def _cut(value: Any, complaint: str) -> bool:
    """Cut the time that the decoder complains of; returns whether that changed anything."""
    named = _BAD_TIME.fullmatch(complaint)
    if named is None:
        return False
    *way, last = named[1].split(".")
    for step in way:
        value = value.get(step) if isinstance(value, dict) else None
    text = value.get(last) if isinstance(value, dict) else None
    if not isinstance(text, str) or (cut := at_most_microseconds(text)) == text:
        return False
    value[last] = cut
    return True


def read_idempotency_key(value: bytes, *, times: int) -> str:
    """The key in a header that occurs `times` times. Raises RequestRefused: invalid_idempotency_key."""
    if times != 1:
        raise RequestRefused("invalid_idempotency_key", f"the header occurs {times} times; which of the keys is meant?")
    if not _KEY.fullmatch(value):
        raise RequestRefused("invalid_idempotency_key", _KEY_RULE)
    return value.decode("ascii")


def check_idempotency_key(value: str, *, path: str) -> str:
    """The key of a batch's item, under the header's rule. Raises RequestRefused: invalid_idempotency_key."""
    if not _KEY.fullmatch(value.encode()):
        raise refuse_field("invalid_idempotency_key", path=path, message=_KEY_RULE)
    return value


_KEY_RULE: Final = "an idempotency key has 1 to 255 visible ASCII characters and no spaces; a UUID is a good one"


def _misfit(complaint: str, *, root: str) -> RequestRefused:
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
    if message == "Invalid RFC3339 encoded datetime":
        message = (
            "is no time of RFC 3339 with a zone, such as 2026-01-31T14:00:00Z; leap seconds (…:60Z) cannot be told"
        )
    return refuse_field("invalid_field", path=path, message=message)
