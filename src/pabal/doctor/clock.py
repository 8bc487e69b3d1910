"""This machine's clock compared with other clocks. Pure.

This clock says when a delivery is due, and it stamps webhooks, whose receivers refuse a timestamp that is five minutes
off (Standard Webhooks). So a second does no harm, and a minute is too much.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from pabal.doctor.finding import Finding, fail, ok, warn

_WARN_SECONDS: Final = 2.0
_FAIL_SECONDS: Final = 60.0


def judge_clock(now: datetime, *, others: Mapping[str, datetime], appended: datetime | None) -> list[Finding]:
    """Compare `now` with the clock of each other machine, and with the log.

    `others`: the time that each machine's clock showed at `now`, by the machine's name. `appended`: when the log took
    its newest record. That may be long ago, but it cannot be later than `now` if this clock is right.
    """
    findings = []
    for name, theirs in others.items():
        seconds = (now - theirs).total_seconds()
        direction = "ahead of" if seconds > 0 else "behind"
        findings.append(_judge(abs(seconds), f"this machine is {abs(seconds):.1f} s {direction} {name}"))
    if appended is not None:
        ahead = max((appended - now).total_seconds(), 0.0)
        text = f"this machine is {ahead:.1f} s behind the log's newest event" if ahead else "not behind the log's"
        findings.append(_judge(ahead, text))
    return findings or [ok("clock", "nothing here to compare it with")]


def _judge(seconds: float, text: str) -> Finding:
    if seconds < _WARN_SECONDS:
        return ok("clock", text)
    advice = f"{text}; let NTP set both clocks"
    return fail("clock", advice) if seconds >= _FAIL_SECONDS else warn("clock", advice)
