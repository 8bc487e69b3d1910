"""Whether a consumer is polled: the sign of life of a group's member."""

import time

from pabal.broker.kafka.loop_calls import LoopCalls


class PollSigns:
    """When a consumer was last polled. `seen` is the event loop's; the rest is for the member's thread."""

    def __init__(self, calls: LoopCalls, *, session_seconds: float) -> None:
        self.session_seconds = session_seconds
        self.polls = 0
        """How many polls there were."""
        self._calls = calls
        self._polling = False
        self._last_sign = self._last_asked = time.monotonic()

    def seen(self, *, polling: bool) -> None:
        """A poll began, or ended."""
        self.polls += polling
        self._last_sign = time.monotonic()
        self._polling = polling

    def is_silent(self) -> bool:
        """Whether no poll came for a session. A poll that waits in a loop that does not run is no sign of life."""
        now = time.monotonic()
        if self._polling and now - self._last_asked > self.session_seconds / 4:
            self._last_asked = now
            self._calls.call(self._answer)
        return now - self._last_sign > self.session_seconds

    def _answer(self) -> None:
        if self._polling:
            self._last_sign = time.monotonic()
