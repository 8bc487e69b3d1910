"""Redrives as they are shown: what `--json` prints and the API answers. Pure."""

from datetime import datetime

from pabal.dlq.letters.selection import Selection
from pabal.dlq.redrive.run import Ending
from pabal.dlq.redrive.stepping import Pace
from pabal.notification import Fact


class RedriveView(Fact, frozen=True, kw_only=True):
    """One redrive: what was planned, and how it stands. `redriven` counts its marks, `host` is where it ran last.

    `state` is `running`; `waiting` (begun over HTTP: an API process goes on with it); `broken` (the process of
    `pabal dlq redrive` ended without a word; the same plan goes on from there); or how its last run ended.
    """

    plan: str
    state: str
    by: str
    reason: str
    started_at: datetime
    planned: int
    redriven: int
    runs: int
    pace: Pace
    selection: Selection
    host: str | None = None
    ended_at: datetime | None = None
    ending: Ending | None = None
