"""How the simulator answers, as data: behaviours for HTTP and SMTP, and a schedule of phases.

::

    [[phase]]                      # from the start
    [[phase.http]]
    latency_seconds = 0.02

    [[phase]]                      # half a minute into the phase before
    after_seconds = 30
    [[phase.http]]
    path = "/hooks/flaky"
    share = 0.3
    status = 503
    [[phase.smtp]]
    recipient = "@example.com"
    stage = "rcpt"
    code = 451

    [[phase]]                      # when the phase before has received 1,000 requests: well again
    after_requests = 1000

The first behaviour of a phase that matches a request decides; a request that none matches is accepted at once.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from pabal.choices import with_choices
from pabal.errors import ConfigError

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]

Reaction = Literal["respond", "hang", "reset", "half_open", "refuse"]
"""What becomes of a request.

`respond`: the status or code. `hang`: it is read, and nothing ever comes back. `reset`: it is read, then the
connection is cut with a TCP RST. `half_open`: connections are accepted and nothing is ever read from them.
`refuse`: the listener is closed and open connections are cut. The last two concern the whole listener.
"""

Stage = Literal["connect", "hello", "auth", "mail", "rcpt", "data", "message"]
"""Where an SMTP conversation stands: the greeting, EHLO, AUTH, MAIL FROM, RCPT TO, the DATA command, and the
message itself (after its final dot)."""


class _Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    latency_seconds: Seconds = 0.0
    share: Share = 1.0
    """The share of matching requests that this behaviour takes, drawn at random; the others go on to the next."""


class HttpBehaviour(_Behaviour, frozen=True, kw_only=True):
    """How HTTP requests are answered whose path begins with `path`.

    `latency_seconds` passes between the request's last byte and the answer's first (or the reset).
    `retry_after_seconds` is sent as `Retry-After`. `slow_body` sends status and headers, then lets the body take
    `body_seconds`.
    """

    answer: Literal["respond", "slow_body", "hang", "reset", "half_open", "refuse"] = "respond"
    path: str = "/"
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 200
    retry_after_seconds: Annotated[int, msgspec.Meta(ge=0)] | None = None
    body: str = ""
    body_seconds: Seconds = 10.0

    def __post_init__(self) -> None:
        if self.answer in ("half_open", "refuse"):
            _whole_listener_only(self.answer, everything=self.path == "/" and self.share == 1)


class SmtpBehaviour(_Behaviour, frozen=True, kw_only=True):
    """How SMTP conversations go on once they reach `stage`.

    `respond` refuses with `code`; without a code it accepts (which serves to give a stage a latency).
    `recipient` is the end of an address (`@example.com`, or a whole one); where the stage comes before any
    recipient it cannot be used. `latency_seconds` passes before the reply (or the reset).
    """

    answer: Reaction = "respond"
    stage: Stage = "message"
    code: Annotated[int, msgspec.Meta(ge=400, le=599)] | None = None
    text: str | None = None
    recipient: str = ""

    def __post_init__(self) -> None:
        if self.answer in ("half_open", "refuse"):
            _whole_listener_only(self.answer, everything=not self.recipient and self.share == 1)
        if self.recipient and self.stage not in ("rcpt", "data", "message"):
            raise ValueError(f"stage {self.stage!r} comes before any recipient is known; leave `recipient` out")
        if self.text is not None and ("\r" in self.text or "\n" in self.text):
            raise ValueError("`text` is one line")


def _whole_listener_only(answer: str, *, everything: bool) -> None:
    if not everything:
        raise ValueError(f"{answer!r} concerns the whole listener; it takes no path, recipient or share")


class Phase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What holds from now on. It begins when the phase before has lasted `after_seconds` or has received
    `after_requests` (HTTP requests and SMTP messages together); a first phase without either begins at once."""

    http: tuple[HttpBehaviour, ...] = ()
    smtp: tuple[SmtpBehaviour, ...] = ()
    after_seconds: Seconds | None = None
    after_requests: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        if self.after_seconds is not None and self.after_requests is not None:
            raise ValueError("a phase begins after seconds or after requests, not both")


class Schedule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Phases one after the other; the last one stays."""

    phase: tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        for number, phase in enumerate(self.phase[1:], start=2):
            if phase.after_seconds is None and phase.after_requests is None:
                raise ValueError(f"phase {number} must say when it begins: after_seconds or after_requests")


def load_schedule(path: Path) -> Schedule:
    """The schedule in a file, TOML or (by its suffix) JSON.

    Raises:
        ConfigError: no such file, not TOML or JSON, an unknown key or a value that does not fit.
    """
    try:
        text = path.read_bytes()
        if path.suffix == ".json":
            return msgspec.json.decode(text, type=Schedule)
        return msgspec.convert(tomllib.loads(text.decode()), type=Schedule)
    except OSError as error:
        raise ConfigError(f"cannot read the schedule {path}: {error.strerror}") from None
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the schedule {path} is wrong: {with_choices(str(error), type_=Schedule)}") from None
