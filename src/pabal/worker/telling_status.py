"""How the groups of a worker stand, for the status of its process and for `/healthz`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from pabal.status.records import GroupStatus, group_status
from pabal.worker.channel import WorkerChannel
from pabal.worker.holds import IDLE_REASONS, IdleReason
from pabal.worker.intake import POLLING_SECONDS, Intake

AILING_SECONDS: Final = 60.0
"""An intake that did not come round for so long will not by itself. Nothing that it waits for takes longer."""

_WORDS: Final[Mapping[IdleReason, str]] = {
    "guard": "guard: every provider refuses",
    "brake": "brake: too many of its records cannot be read",
    "directive": "directive: a person holds it",
}


def statuses_of(channels: Iterable[WorkerChannel]) -> Sequence[GroupStatus]:
    """The status of each group."""
    return [
        group_status(
            intake.group,
            intake.progress,
            held=", ".join(_WORDS[reason] for reason in IDLE_REASONS if reason in intake.holds) or None,
            is_polling=intake.idle_seconds < POLLING_SECONDS,
        )
        for intake in _intakes(channels)
    ]


def ailments_of(channels: Iterable[WorkerChannel]) -> Sequence[str]:
    """The intakes that have stopped polling, in words; empty: all poll."""
    return [
        f"{intake.group} has not polled for {intake.idle_seconds:.0f} s"
        for intake in _intakes(channels)
        if intake.idle_seconds >= AILING_SECONDS
    ]


def _intakes(channels: Iterable[WorkerChannel]) -> Iterator[Intake]:
    return (intake for channel in channels for intake in channel.intakes.values())
