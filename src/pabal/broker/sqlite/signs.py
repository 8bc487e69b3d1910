"""Whether a consumer is polled: the sign of life of a group's member, on the boot-time clock."""

from pabal.clock import Clock


class PollSigns:
    """When a consumer was last polled, and until when the poll under way may take."""

    def __init__(self, clock: Clock, *, session_seconds: float) -> None:
        self._clock = clock
        self._session_seconds = session_seconds
        self._is_polling = False
        self._last_poll = 0.0
        self._poll_ends = float("inf")

    def began(self, *, timeout_seconds: float) -> None:
        """A poll began."""
        self._is_polling = True
        self._poll_ends = self._clock.boot_seconds() + timeout_seconds

    def ended(self) -> None:
        """A poll ended."""
        self._is_polling = False
        self._last_poll = self._poll_ends = self._clock.boot_seconds()

    def session_left_seconds(self) -> float:
        """How long the member lives from now: a session during a poll, else what is left of the one since the last."""
        if self._is_polling:
            return self._session_seconds
        return self._last_poll + self._session_seconds - self._clock.boot_seconds()

    def unpolled_seconds(self) -> float:
        """See `Leaseholder.unpolled_seconds`."""
        return max(0.0, self._clock.boot_seconds() - self._poll_ends)
