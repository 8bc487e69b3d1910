"""The one way in which a run can end before its time."""


class RunFailed(Exception):
    """A run could not be made, or something did not come true in time; the message says what."""
