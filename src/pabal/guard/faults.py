"""Whose doing the end of a call was. Pure."""

from typing import Literal

from pabal.guard.parks import LONGEST_PARK_SECONDS
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected

Fault = Literal["none", "ours", "settings", "callee", "address"]
"""Nobody's (the delivery was answered), ours, that of the tenant's settings, that of the callee as a whole, or that of
the one address, as far as this call tells."""


def fault_of(outcome: Outcome, *, has_hosts: bool) -> Fault:
    """Whose fault it is. `has_hosts`: the provider calls a host of its own for each address."""
    match outcome:
        case Accepted() | Rejected():
            return "none"
        case Misconfigured(tenant_only=tenant_only):
            return "settings" if tenant_only else "ours"
        case Deferred(address_only=address_only):
            return "address" if address_only else "callee"
        case _:
            # Silence on a connection that came about: a host has many addresses, and only one of them was asked for.
            return "address" if has_hosts else "callee"


def not_before(outcome: Outcome, now: float) -> float | None:
    """Before when nothing more is wanted, if the far side said so."""
    if isinstance(outcome, Deferred) and outcome.retry_after_seconds is not None:
        # More is not believed: it stands between a delivery and its expiry.
        return now + min(outcome.retry_after_seconds, LONGEST_PARK_SECONDS)
    return None
