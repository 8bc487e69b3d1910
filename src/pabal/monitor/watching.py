"""What one monitor has seen: the fleet, the sample windows, and the minute that is under way. Pure but for its logs."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from pabal.broker.port import Record
from pabal.clock import Clock
from pabal.errors import DecodeError
from pabal.monitor.fleet import Fleet
from pabal.monitor.history import Minute, Totals, WorstOfMinute
from pabal.monitor.sample_log import SampleReplay
from pabal.monitor.samples import Owner, Place, Sampled
from pabal.monitor.windows import GroupView, Windows
from pabal.status.records import LagSample, ProcessStatus, read_status
from pabal.unreadable import Unreadable


class Watching:
    """Takes in the records of `pabal.status` and the monitor's own samples, and says what they come to."""

    def __init__(self, *, clock: Clock) -> None:
        self.fleet = Fleet()
        self.windows = Windows()
        self.unreadable = Unreadable("statuses")

        self.losses: dict[tuple[str, str], int] = {}
        """Records that retention deleted unread, by group and topic, since this began."""

        self._replay = SampleReplay()
        self._totals = Totals()
        self._worst = WorstOfMinute()
        self._lost_before: dict[Place, int] = {}
        self._clock = clock

    def note_record(self, record: Record, *, counted_from: datetime | None = None, is_replayed: bool = False) -> None:
        """Take in a record. `counted_from`: what was counted before that stands in the history already. `is_replayed`:
        a monitor took over and reads what it missed, the samples of the monitor before it included."""
        try:
            found = read_status(record)
        except DecodeError as error:
            self.unreadable.note(record, error)
            return
        now = self._clock.boot_seconds()
        age = max(self._clock.now().timestamp() - record.timestamp, 0.0)
        match found:
            case ProcessStatus():
                self.fleet.note(found, now=now, age_seconds=age)
                appended_at = datetime.fromtimestamp(record.timestamp, UTC)
                self._totals.note(found, is_counted=counted_from is None or appended_at > counted_from)
            case LagSample() if is_replayed:
                sampled = self._replay.take(found, at=now - age)
                if sampled is not None:
                    self.windows.note(sampled)

    def note_sample(self, sampled: Sampled) -> None:
        """Take in a sample of this monitor's own."""
        self.windows.note(sampled)
        for place, sample in sampled.samples.items():
            newly = sample.lost - self._lost_before.get(place, 0)
            self._lost_before[place] = sample.lost
            if newly > 0:
                key = (place.group, place.topic)
                self.losses[key] = self.losses.get(key, 0) + newly

    def forget_samples(self) -> None:
        """Begin new windows."""
        self.windows = Windows()

    def owners(self) -> Mapping[Place, Owner]:
        """What the running processes tell of the partitions that they own."""
        return self.fleet.owners(self._clock.boot_seconds())

    def note_groups(self, groups: Sequence[GroupView]) -> None:
        """Remember the groups at their worst, for the minute."""
        self._worst.note(groups)

    def take_minute(self, *, seconds: float) -> Minute:
        """The minute that ends now; the next one begins."""
        now = self._clock.boot_seconds()
        self.fleet.forget_old(now)
        return Minute(
            at=self._clock.now(),
            seconds=seconds,
            processes=sum(each.is_running(now) for each in self.fleet.processes()),
            figures=self._totals.take(),
            groups=self._worst.take(),
        )
