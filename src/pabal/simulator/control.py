"""Control calls while the simulator runs: change the behaviour, read and forget the counts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from pabal.choices import with_choices
from pabal.loopback import host_name, is_loopback
from pabal.simulator.behaviour import Phase, Schedule
from pabal.simulator.receipts import PostedReceipts, ReceiptOrder
from pabal.simulator.received import ReceivedRequests
from pabal.simulator.script import Script

_encode = msgspec.json.Encoder().encode

T = TypeVar("T")


class ControlCalls:
    """Answers below `/_control`.

    ::

        GET    /_control/behaviour          what is in force
        PUT    /_control/behaviour          {"http": [...], "smtp": [...]}; {} accepts everything
        PUT    /_control/schedule           {"phase": [...]}: begin these phases
        GET    /_control/counts             totals, by answer, by key (?by_key=no leaves the keys out)
        GET    /_control/arrivals           per key its arrival times in ns (?refused=no: without the refused)
        GET    /_control/arrivals/KEY       the times of one key
        GET    /_control/requests           the last ones whole
        POST   /_control/receipts           {"to": URL, "secret": "whsec_…", "kinds": ["delivered"], …}: report later
        DELETE /_control                    forget all counts
    """

    def __init__(
        self,
        *,
        script: Script,
        received: ReceivedRequests,
        enter: Callable[[Phase | Schedule], Awaitable[None]],
        report: Callable[[ReceiptOrder], Awaitable[PostedReceipts]],
    ) -> None:
        self._script = script
        self._received = received
        self._enter = enter
        self._report = report

    async def respond(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer: JSON, or a problem (RFC 9457)."""
        parts = urlsplit(target)
        path = parts.path.rstrip("/").removeprefix("/_control")
        try:
            match method, path:
                case "GET", "/behaviour":
                    return 200, _encode(self._script.phase)
                case "PUT", "/behaviour":
                    phase = _decode(body, Phase)
                    if phase.after_seconds is not None or phase.after_requests is not None:
                        return _problem(400, "a behaviour begins at once; `after_…` belongs to /_control/schedule")
                    await self._enter(phase)
                    return 200, _encode(self._script.phase)
                case "PUT", "/schedule":
                    await self._enter(_decode(body, Schedule))
                    return 200, _encode(self._script.phase)
                case "POST", "/receipts":
                    return 200, _encode(await self._report(_decode(body, ReceiptOrder)))
                case "DELETE", "":
                    self._received.forget()
                    return 200, b"{}"
                case "GET", _:
                    return self._read(path, parse_qs(parts.query))
        except msgspec.DecodeError as error:
            return _problem(400, str(error))
        return _no_such_call(method, path)

    def _read(self, path: str, query: Mapping[str, list[str]]) -> tuple[int, bytes]:
        match path.split("/"):
            case ["", "counts"]:
                return 200, _encode(self._received.counts(by_key=query.get("by_key") != ["no"]))
            case ["", "arrivals"]:
                return 200, _encode(self._received.times(with_refused=query.get("refused") != ["no"]))
            case ["", "arrivals", key]:
                return 200, _encode(self._received.times_of(unquote(key)))
            case ["", "requests"]:
                return 200, _encode(
                    [_readable(each.path, each.headers, each.body, each.at_ns) for each in self._received.kept()]
                )
        return _no_such_call("GET", path)


def refuse_stranger(headers: Sequence[tuple[bytes, bytes]], *, address: str) -> tuple[int, bytes] | None:
    """The answer to a control call that a page of a stranger lets a browser make; None: it is none.

    `Host` must be a name or address of loopback, or the `address` that was connected to (DNS rebinding has another name
    there), and `Origin`, which browsers send along, that same host (CSRF).
    """
    hosts = [value.decode("latin-1") for name, value in headers if name.lower() == b"host"]
    origins = [value.decode("latin-1") for name, value in headers if name.lower() == b"origin"]
    if len(hosts) != 1 or not (is_loopback(hosts[0]) or host_name(hosts[0]) == address):
        return _problem(421, f"control calls are answered under localhost, loopback addresses and {address} alone")
    if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in origins):
        return _problem(403, "a page of another origin may make no control calls")
    return None


def _decode(body: bytes, type_: type[T]) -> T:
    """Raises msgspec.DecodeError, naming the words there are where one is wrong."""
    try:
        return msgspec.json.decode(body, type=type_)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(with_choices(str(error), type_=type_)) from None


def _readable(path: str, headers: object, body: bytes, at_ns: int) -> dict[str, object]:
    return {"path": path, "headers": headers, "body": body.decode(errors="replace"), "at_ns": at_ns}


def _no_such_call(method: str, path: str) -> tuple[int, bytes]:
    return _problem(404, f"no control call {method} /_control{path}; see docs/simulator.md")


def _problem(status: int, detail: str) -> tuple[int, bytes]:
    return status, _encode({"title": "control call refused", "status": status, "detail": detail})
