"""What is at fault when a call fails. Pure."""

from typing import Literal

from pabal.guard.parks import LONGEST_PARK_SECONDS
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected

Fault = Literal["none", "ours", "settings", "callee", "address"]
"""Nothing is (the delivery was answered), we are, the tenant's settings are, the callee as a whole is, or the one
address is, as far as this call tells."""


def fault_of(outcome: Outcome, *, has_hosts: bool) -> Fault:
    """What is at fault. `has_hosts`: the provider calls a host of its own for each address."""
    match outcome:
        case Accepted() | Rejected():
            return "none"
        case Misconfigured(tenant_only=tenant_only):
            return "settings" if tenant_only else "ours"
        case Deferred(address_only=address_only):
            return "address" if address_only else "callee"
        case _:
            # The connection came about and then was silent. A host has many addresses, and the call was for one.
            return "address" if has_hosts else "callee"


def not_before(outcome: Outcome, now: float) -> float | None:
    """Before when nothing more is wanted, if the far side said so."""
    if isinstance(outcome, Deferred) and outcome.retry_after_seconds is not None:
        # More is not believed: it stands between a delivery and its expiry.
        return now + min(outcome.retry_after_seconds, LONGEST_PARK_SECONDS)
    return None
