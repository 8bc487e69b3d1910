"""Every endpoint but the two that accept: one coroutine per request, and problems where it ends otherwise.

`notifications.py` and `batch.py` do the same by hand, because their cost is counted in microseconds.
"""

import logging
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl
from uuid import UUID

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from pabal.api.acceptance import refused_by_log
from pabal.api.asgi import Answer, Head, check_json, read_body, read_head
from pabal.api.decoding import at_most_microseconds, decode
from pabal.api.problems import BodyError, Refused, defect, log_unavailable, refuse_for_now, topics_missing
from pabal.choices import with_choices
from pabal.errors import LedgerUnavailable, LogError, RecordRefused, StoreUnavailable, UnknownTopic

MAX_QUERY_BYTES: Final = 8192

_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`(; there are: .*)?", re.DOTALL)

logger = logging.getLogger(__name__)

T = TypeVar("T")
Q = TypeVar("Q", bound=msgspec.Struct)


class Call:
    """One request, as its endpoint needs it."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.head: Head = read_head(scope)
        self.method: str = scope["method"]
        self._scope = scope
        self._receive = receive

    def id(self) -> UUID:
        """The `{id}` of the path."""
        found = self._scope["path_params"]["id"]
        assert isinstance(found, UUID)
        return found

    def part(self, name: str) -> str:
        """A part of the path."""
        return str(self._scope["path_params"][name])

    def query(self, model: type[Q]) -> Q:
        """The query string by a model's fields, each at most once. Raises Refused: invalid_parameter."""
        return read_query(self._scope["query_string"], model)

    async def body(self, *, limit: int) -> bytes:
        """The body as it is. Raises as `asgi.read_body`."""
        return await read_body(self._receive, self.head, limit=limit)

    async def json(self, decoder: "msgspec.json.Decoder[T]", *, limit: int) -> T:
        """The body by a model. Raises Refused as `asgi.check_json`, `asgi.read_body` and `decoding.decode`."""
        check_json(self.head)
        return decode(decoder, await self.body(limit=limit))


class Endpoint:
    """A plain ASGI application around a coroutine that answers a call or raises Refused."""

    def __init__(self, respond: Callable[[Call], Awaitable[Answer]]) -> None:
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            answer = await self._respond(Call(scope, receive))
        except Refused as refused:
            answer = _refusal(refused)
        except ClientDisconnect:
            return
        except RecordRefused as error:
            answer = _refusal(refused_by_log(error))
        except UnknownTopic as error:
            answer = _refusal(topics_missing(str(error)))
        except LogError as error:
            logger.warning("the log: %s", error)
            answer = _refusal(log_unavailable("the log did not answer in time; asking again is safe"))
        except StoreUnavailable as error:
            logger.warning("the store: %s", error)
            answer = _refusal(refuse_for_now("store_unavailable", "the store did not answer"))
        except LedgerUnavailable as error:
            logger.warning("the ledger: %s", error)
            answer = _refusal(refuse_for_now("ledger_unavailable", "the ledger did not answer; asking again is safe"))
        except Exception:  # The boundary, as in `notifications.py`.
            logger.exception("a request met a defect")
            answer = _refusal(defect())
        await answer.send(send)


def read_query(text: bytes, model: type[Q]) -> Q:
    """The query string as a model's fields. Raises Refused: invalid_parameter, naming the first that does not fit.

    A plus sign is one (RFC 3986): addresses and time zones have them, and nothing here has spaces.
    """
    if len(text) > MAX_QUERY_BYTES:
        raise refuse_parameter("", f"the query has more than {MAX_QUERY_BYTES} bytes")
    fields: dict[str, Any] = {}
    for name, value in parse_qsl(text.decode("latin-1").replace("+", "%2B"), keep_blank_values=True, errors="replace"):
        if name in fields:
            raise refuse_parameter(name, "occurs twice; which is meant?")
        fields[name] = value
    for name in _times(model) & fields.keys():
        # Outside of its strict mode msgspec takes any number for seconds.
        fields[name] = at_most_microseconds(fields[name])
        try:
            msgspec.convert(fields[name], datetime)
        except msgspec.ValidationError as error:
            raise refuse_parameter(name, str(error)) from None
    try:
        query = msgspec.convert(fields, model, strict=False)
    except msgspec.ValidationError as error:
        message, _, place = with_choices(str(error), type_=model).rpartition(" - at `$.")
        if not message and (unknown := _UNKNOWN.fullmatch(place)):
            raise refuse_parameter(unknown[1], f"there is no such parameter{unknown[2] or ''}") from None
        raise refuse_parameter(place.removesuffix("`") if message else "", message or place) from None
    for field in msgspec.structs.fields(model):
        # Likewise it takes the text "null" for nothing.
        if field.encode_name in fields and getattr(query, field.name) is None:
            raise refuse_parameter(field.encode_name, "null is no value of it; leave the parameter out")
    return query


@lru_cache
def _times(model: type[msgspec.Struct]) -> frozenset[str]:
    """The parameters that are times."""
    info = msgspec.inspect.type_info(model)
    assert isinstance(info, msgspec.inspect.StructType)
    return frozenset(field.encode_name for field in info.fields if _is_time(field.type))


def _is_time(kind: msgspec.inspect.Type) -> bool:
    match kind:
        case msgspec.inspect.Metadata(type=inner):
            return _is_time(inner)
        case msgspec.inspect.UnionType(types=types):
            return any(_is_time(each) for each in types)
        case _:
            return isinstance(kind, msgspec.inspect.DateTimeType)


def refuse_parameter(name: str, message: str) -> Refused:
    """One parameter of the query is at fault."""
    path = f"?{name[:64]}"
    error = BodyError(path=path, code="invalid_parameter", message=message)
    return Refused("invalid_parameter", f"{path}: {message}", errors=[error])


def _refusal(refused: Refused) -> Answer:
    return Answer(status=refused.status, body=refused.problem(), headers=refused.headers)
