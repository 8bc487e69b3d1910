"""Which behaviour is in force: the phases of a schedule, or what a control call said last."""

import asyncio
from collections.abc import Callable, Sequence
from random import Random

from pabal.simulator.behaviour import HttpBehaviour, Phase, SmtpBehaviour, Stage

_WELL = Phase()


class Script:
    """Keeps the current phase, moves on by time or by requests, and picks the behaviour for one request.

    `on_phase` is called at each change, in the event loop.
    """

    def __init__(self, *, random: Random, on_phase: Callable[[Phase], None]) -> None:
        self.phase = _WELL
        self._random = random
        self._on_phase = on_phase
        self._coming: list[Phase] = []
        self._requests_left: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, phases: Sequence[Phase]) -> None:
        """Begin these phases anew; what was in force ends."""
        coming = list(phases)
        starts_now = bool(coming) and coming[0].after_seconds is None and coming[0].after_requests is None
        first = coming.pop(0) if starts_now else _WELL
        self._coming = coming
        self._enter(first)

    def set(self, phase: Phase) -> None:
        """Let this hold from now on; a schedule under way ends."""
        self._coming = []
        self._enter(phase)

    def stop(self) -> None:
        """No phase follows any more."""
        self._coming = []
        self._disarm()

    def http(self, path: str) -> HttpBehaviour | None:
        """The behaviour for a request of this path; None: accept it at once."""
        for behaviour in self.phase.http:
            if path.startswith(behaviour.path) and self._takes(behaviour.share):
                return behaviour
        return None

    def smtp(self, stage: Stage, recipients: Sequence[str] = ()) -> SmtpBehaviour | None:
        """The behaviour for a conversation at this stage; None: go on."""
        for behaviour in self.phase.smtp:
            if behaviour.stage != stage:
                continue
            if behaviour.recipient and not any(each.endswith(behaviour.recipient) for each in recipients):
                continue
            if self._takes(behaviour.share):
                return behaviour
        return None

    def count_request(self) -> None:
        """One more was received: perhaps the next phase begins (with the next request)."""
        if self._requests_left is not None:
            self._requests_left -= 1
            if self._requests_left == 0:
                self._next()

    def _takes(self, share: float) -> bool:
        return share >= 1.0 or self._random.random() < share

    def _enter(self, phase: Phase) -> None:
        self._disarm()
        self.phase = phase
        if self._coming:
            following = self._coming[0]
            self._requests_left = following.after_requests
            if following.after_seconds is not None:
                self._timer = asyncio.get_running_loop().call_later(following.after_seconds, self._next)
        self._on_phase(phase)

    def _disarm(self) -> None:
        self._requests_left = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _next(self) -> None:
        self._enter(self._coming.pop(0))
