"""Counts what a worker does: its deeds as they are told, and how it stands when the meter is read."""

from collections.abc import Callable, Mapping
from typing import Final

from pabal.guard import ProviderStanding
from pabal.notification import EventKind
from pabal.outcome import DeadLetter
from pabal.telemetry.meter import LabelValues, Meter
from pabal.worker.channel import WorkerChannel
from pabal.worker.deed import Deed
from pabal.worker.holds import IDLE_REASONS

_ENDS: Final[frozenset[EventKind]] = frozenset(
    ("sent", "rejected", "expired", "dead_lettered", "suppressed", "cancelled")
)
"""What is final: no further record of the delivery follows."""


class DeedCounter:
    """An observer of deeds (`worker/deed.py`) that counts them. After a crash a deed may be counted twice."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def __call__(self, deed: Deed) -> None:
        """Count one deed."""
        meter, channel, class_ = self._meter, deed.channel, deed.class_
        if deed.outcome is not None:
            outcome = type(deed.outcome).__name__.lower()
            meter.counter("pabal_attempts_total", channel, class_, deed.provider, outcome).add()
            if deed.latency_seconds is not None:
                meter.histogram("pabal_attempt_duration_seconds", channel, deed.provider).observe(deed.latency_seconds)
        if deed.verdict is None:
            return  # Another worker decided, and counts it.
        if deed.kind in _ENDS:
            meter.counter("pabal_ended_total", channel, class_, deed.kind).add()
            if deed.is_redriven:
                meter.counter("pabal_redriven_total", channel, deed.kind).add()
        elif deed.kind == "parked":
            meter.counter("pabal_parks_total", channel, class_).add()
        else:
            meter.counter("pabal_retries_total", channel, class_).add()
        if isinstance(deed.verdict, DeadLetter):
            meter.counter("pabal_dead_letters_total", channel, deed.verdict.error_class).add()
        if deed.kind == "sent" and deed.age_seconds is not None and not deed.is_redriven:
            meter.histogram("pabal_time_to_send_seconds", channel, class_).observe(deed.age_seconds)


def show_channels(channels: Mapping[str, WorkerChannel], meter: Meter) -> None:
    """Let the meter ask the channels of a worker how they stand."""

    def in_flight() -> Mapping[LabelValues, float]:
        return {
            (name, class_): intake.in_flight
            for name, channel in channels.items()
            for class_, intake in channel.intakes.items()
        }

    def held() -> Mapping[LabelValues, float]:
        return {
            (name, class_, reason): float(reason in channel.holds(class_))
            for name, channel in channels.items()
            for class_ in channel.intakes
            for reason in IDLE_REASONS
        }

    def of_providers(figure: Callable[[ProviderStanding], float]) -> Mapping[LabelValues, float]:
        return {
            (name, standing.name): figure(standing)
            for name, channel in channels.items()
            for standing in channel.standings()
        }

    def undecodable() -> Mapping[LabelValues, float]:
        return {
            ("worker",): sum(intake.unreadable for channel in channels.values() for intake in channel.intakes.values())
        }

    meter.gauge("pabal_undecodable_total", undecodable)
    meter.gauge("pabal_in_flight", in_flight)
    meter.gauge("pabal_intake_held", held)
    meter.gauge("pabal_provider_open", lambda: of_providers(lambda each: each.is_open))
    meter.gauge("pabal_hosts_open", lambda: of_providers(lambda each: each.hosts_open))
    meter.gauge("pabal_concurrency_limit", lambda: of_providers(lambda each: each.concurrency_limit))
