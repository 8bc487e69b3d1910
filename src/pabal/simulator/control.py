"""Control calls while the simulator runs: change the behaviour, read and forget the counts."""

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from pabal.simulator.behaviour import Phase, Schedule
from pabal.simulator.receipts import ReceiptOrder, Reported
from pabal.simulator.script import Script
from pabal.simulator.tally import Tally

_encode = msgspec.json.Encoder().encode


class ControlCalls:
    """Answers below `/_control`.

    ::

        GET    /_control/behaviour          what is in force
        PUT    /_control/behaviour          {"http": [...], "smtp": [...]}; {} accepts everything
        PUT    /_control/schedule           {"phase": [...]}: begin these phases
        GET    /_control/counts             totals, by answer, by key (?by_key=no leaves the keys out)
        GET    /_control/arrivals           per key its arrival times in ns (?refused=no: without the refused)
        GET    /_control/arrivals/KEY       those of one key
        GET    /_control/requests           the last ones whole
        POST   /_control/receipts           {"to": URL, "secret": "whsec_…", "kinds": ["delivered"], …}: report later
        DELETE /_control                    forget all counts
    """

    def __init__(
        self,
        *,
        script: Script,
        tally: Tally,
        enter: Callable[[Phase | Schedule], Awaitable[None]],
        report: Callable[[ReceiptOrder], Awaitable[Reported]],
    ) -> None:
        self._script = script
        self._tally = tally
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
                    phase = msgspec.json.decode(body, type=Phase)
                    if phase.after_seconds is not None or phase.after_requests is not None:
                        return _problem(400, "a behaviour begins at once; `after_…` belongs to /_control/schedule")
                    await self._enter(phase)
                    return 200, _encode(self._script.phase)
                case "PUT", "/schedule":
                    await self._enter(msgspec.json.decode(body, type=Schedule))
                    return 200, _encode(self._script.phase)
                case "POST", "/receipts":
                    return 200, _encode(await self._report(msgspec.json.decode(body, type=ReceiptOrder)))
                case "DELETE", "":
                    self._tally.forget()
                    return 200, b"{}"
                case "GET", _:
                    return self._read(path, parse_qs(parts.query))
        except msgspec.DecodeError as error:
            return _problem(400, str(error))
        return _no_such_call(method, path)

    def _read(self, path: str, query: Mapping[str, list[str]]) -> tuple[int, bytes]:
        match path.split("/"):
            case ["", "counts"]:
                return 200, _encode(self._tally.counts(by_key=query.get("by_key") != ["no"]))
            case ["", "arrivals"]:
                return 200, _encode(self._tally.arrivals(with_refused=query.get("refused") != ["no"]))
            case ["", "arrivals", key]:
                return 200, _encode(self._tally.arrivals_of(unquote(key)))
            case ["", "requests"]:
                return 200, _encode(
                    [_readable(each.path, each.headers, each.body, each.at_ns) for each in self._tally.kept()]
                )
        return _no_such_call("GET", path)


def _readable(path: str, headers: object, body: bytes, at_ns: int) -> dict[str, object]:
    return {"path": path, "headers": headers, "body": body.decode(errors="replace"), "at_ns": at_ns}


def _no_such_call(method: str, path: str) -> tuple[int, bytes]:
    return _problem(404, f"no control call {method} /_control{path}; see docs/simulator.md")


def _problem(status: int, detail: str) -> tuple[int, bytes]:
    return status, _encode({"title": "control call refused", "status": status, "detail": detail})
