"""Samples as records of `pabal.status`: what changed since the sample before, and now and then all of it. Pure."""

from datetime import datetime
from typing import Final

import msgspec

from pabal.lag import Sample
from pabal.monitor.samples import Place, Sampled
from pabal.status.records import LagSample, SampleRow

WHOLE_EVERY_SECONDS: Final = 20.0
"""How often a record has every partition: a monitor that takes over needs one of these, and what came after it."""

_DRIFTING: Final = ("age_seconds", "overdue_seconds")
"""These grow by themselves while nothing happens."""


class SampleWriter:
    """Makes the records of one monitor's samples."""

    def __init__(self, instance: str) -> None:
        self._instance = instance
        self._rows: dict[Place, SampleRow] = {}
        self._whole_at: float | None = None

    def record_of(self, sampled: Sampled, *, at: datetime) -> LagSample | None:
        """What to keep of a sample. `at` is its time on the wall. None: nothing waits, and nothing has changed."""
        rows = {place: row_of(place, sample) for place, sample in sampled.samples.items()}
        is_whole = self._whole_at is None or sampled.at - self._whole_at >= WHOLE_EVERY_SECONDS
        # A partition that is sampled no more cannot be told by a difference.
        is_whole = is_whole or not self._rows.keys() <= rows.keys()
        changed = [row for place, row in rows.items() if is_whole or _steady(row) != self._rows.get(place)]
        self._rows = {place: _steady(row) for place, row in rows.items()}
        if is_whole:
            self._whole_at = sampled.at
        elif not changed and not any(sample.lag for sample in sampled.samples.values()):
            return None
        return LagSample(
            instance=self._instance, at=at, is_whole=is_whole, rows=tuple(changed), members=dict(sampled.members)
        )


class SampleReplay:
    """Makes samples again from their records, in the order of the log."""

    def __init__(self) -> None:
        self._samples: dict[Place, Sample] = {}
        self._last: LagSample | None = None

    def take(self, record: LagSample, *, at: float) -> Sampled | None:
        """The sample of a record. `at` is its time on this machine's boot clock. None: no whole sample of the same
        monitor came before it, so that nothing says what did not change."""
        last = self._last
        if record.is_whole:
            self._samples = {}
        elif last is None or last.instance != record.instance:
            return None
        else:
            passed = max((record.at - last.at).total_seconds(), 0.0)
            self._samples = {place: _aged(sample, passed, at=at) for place, sample in self._samples.items()}
        self._last = record
        for row in record.rows:
            self._samples[Place(row.group, row.topic, row.partition)] = sample_of(row, at=at)
        return Sampled(at=at, samples=dict(self._samples), members=record.members)


def row_of(place: Place, sample: Sample) -> SampleRow:
    """A sample as a row."""
    values = msgspec.structs.asdict(sample)
    del values["at"]
    return SampleRow(group=place.group, topic=place.topic, partition=place.partition, **values)


def sample_of(row: SampleRow, *, at: float) -> Sample:
    """A row as a sample."""
    values = msgspec.structs.asdict(row)
    for name in ("group", "topic", "partition"):
        del values[name]
    return Sample(at=at, **values)


def _steady(row: SampleRow) -> SampleRow:
    return msgspec.structs.replace(row, **dict.fromkeys(_DRIFTING))


def _aged(sample: Sample, seconds: float, *, at: float) -> Sample:
    """The same partition later, when nothing has changed: what waits is older by that."""
    changes: dict[str, float] = {"at": at}
    if sample.lag:
        for name in _DRIFTING:
            if (value := getattr(sample, name)) is not None and (name == "age_seconds" or value):
                changes[name] = value + seconds
    return msgspec.structs.replace(sample, **changes)
