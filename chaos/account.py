"""What became of everything that was accepted, and whether that keeps the promises. Pure."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

Log = Literal["embedded", "kafka"]

FINAL_WITHOUT_A_SEND = frozenset({"rejected", "expired", "suppressed", "cancelled", "dead_lettered", "discarded"})
"""Events that say why something accepted did not arrive. `sent` is none of them: what was sent must arrive."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that was answered with 202. Times are nanoseconds since the Unix epoch.

    `first_asked_ns`: when its request was made for the first time, however often it had to be made again.
    """

    first_asked_ns: int
    accepted_ns: int


class Told(msgspec.Struct, kw_only=True):
    """What the log tells of a delivery: the kinds of its events, its dead letters' error classes, the last attempt.

    `told_at`: when each event happened, in seconds since the Unix epoch by its writer's clock.
    `explained_ns`: when it was first told that (and why) nothing will arrive.
    """

    kinds: set[str] = msgspec.field(default_factory=set)
    dead: list[str] = msgspec.field(default_factory=list)
    attempt: int = 0
    told_at: list[float] = msgspec.field(default_factory=list)
    explained_ns: int | None = None

    @property
    def explains(self) -> bool:
        """Whether it says that (and why) there is nothing to arrive."""
        return bool(self.dead or self.kinds & FINAL_WITHOUT_A_SEND)

    @property
    def is_uncertain(self) -> bool:
        """Whether there was a call whose end nobody knows."""
        return "unknown" in self.kinds or "uncertain" in self.dead


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of one run.

    `sent`: accepted and arrived. `lost`: accepted, never arrived, and nothing in the log says why. `duplicated`:
    arrivals beyond a delivery's first, at a receiver that does not deduplicate. `uncertain`: deliveries with a call
    whose end is not known. `dead`: dead letters, those of unreadable records included. `untold`: arrived, and the log
    does not say so. `strangers`: arrivals under ids that nobody was given, which a deduplicating receiver would take
    for something new.
    """

    accepted: int
    sent: int
    lost: int
    duplicated: int
    uncertain: int
    dead: int
    untold: int
    strangers: int
    recovered_after_seconds: float


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """What a scenario may cost. `duplicates`: calls in flight at all its crashes. `dead`: exactly so many dead letters;
    or `dead_at_most`, where that is up to the moment of the fault. `recovered_within_seconds` where that is promised.
    """

    duplicates: int
    dead: int = 0
    dead_at_most: int | None = None
    recovered_within_seconds: float | None = None


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of bench/out/chaos.jsonl, `null` where a failed run could not count."""

    failure: str
    log: Log
    accepted: int | None = None
    sent: int | None = None
    lost: int | None = None
    duplicated: int | None = None
    uncertain: int | None = None
    dead: int | None = None
    recovered_after_seconds: float | None = None
    duplicates_allowed: int | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    quick: bool = False


def true_statuses(delivery: str, *, arrived: Mapping[str, Sequence[int]], told: Mapping[str, Told]) -> frozenset[str]:
    """What the store may say of a delivery, given what happened to it. One that was sent stays sent."""
    known = told.get(delivery, Told())
    if "sent" in known.kinds or (delivery in arrived and not known.explains):
        return frozenset({"sent", "delivered"})
    if known.dead:
        return frozenset({"dead_lettered", "discarded"})
    return frozenset(known.kinds & FINAL_WITHOUT_A_SEND)


def is_accounted_for(delivery: str, *, arrived: Mapping[str, Sequence[int]], told: Mapping[str, Told]) -> bool:
    """Whether a delivery has arrived or the log says why it did not."""
    return delivery in arrived or (delivery in told and told[delivery].explains)


def take_account(
    accepted: Mapping[str, Asked],
    *,
    arrived: Mapping[str, Sequence[int]],
    told: Mapping[str, Told],
    unreadable: int,
    fault_over_ns: int,
) -> Account:
    """Compare what was accepted with what arrived (per id its times) and what the log tells.

    `unreadable`: dead letters of records that name no delivery. Recovered is when the last delivery had ended that had
    been asked for before the end of the fault, `fault_over_ns`.
    """
    unknown = Told()
    of = {delivery: told.get(delivery, unknown) for delivery in accepted}
    ended = {
        delivery: arrived[delivery][0] if delivery in arrived else of[delivery].explained_ns for delivery in accepted
    }
    waited = [at for each, at in ended.items() if at is not None and accepted[each].first_asked_ns <= fault_over_ns]
    return Account(
        accepted=len(accepted),
        sent=len(accepted.keys() & arrived.keys()),
        lost=sum(not is_accounted_for(delivery, arrived=arrived, told=told) for delivery in accepted),
        duplicated=sum(len(times) - 1 for times in arrived.values()),
        uncertain=sum(each.is_uncertain for each in of.values()),
        dead=unreadable + sum(len(each.dead) for each in told.values()),
        untold=sum(
            "sent" not in of[delivery].kinds and not of[delivery].explains for delivery in accepted.keys() & arrived
        ),
        strangers=len(arrived.keys() - accepted.keys()),
        recovered_after_seconds=round(max((max(waited, default=0) - fault_over_ns) / 1e9, 0.0), 2),
    )


def broken_promises(account: Account, allowed: Allowed) -> list[str]:
    """Every promise that the account breaks, in words; none is what the gate wants."""
    broken = []
    if account.accepted == 0:
        broken.append("nothing was accepted, so nothing was proved")
    if account.lost:
        broken.append(f"{account.lost} accepted deliveries were lost")
    if account.duplicated > allowed.duplicates:
        broken.append(f"{account.duplicated} arrived again, at most {allowed.duplicates} may")
    if account.strangers:
        broken.append(f"{account.strangers} arrived under ids that nobody was given")
    if account.untold:
        broken.append(f"{account.untold} arrived, and no event says so")
    if allowed.dead_at_most is not None and account.dead > allowed.dead_at_most:
        broken.append(f"{account.dead} dead letters, at most {allowed.dead_at_most} may be")
    if allowed.dead_at_most is None and account.dead != allowed.dead:
        broken.append(f"{account.dead} dead letters instead of {allowed.dead}")
    within = allowed.recovered_within_seconds
    if within is not None and account.recovered_after_seconds > within:
        broken.append(f"it took {account.recovered_after_seconds} s to recover, {within:g} are promised")
    return broken
