"""The guard around a provider: what is called, when, and how often. Pure; the worker asks and tells.

Overview. Each provider, and each host, tenant at a host and URL behind it, is a *callee* with three judges: a *circuit*
(`circuit.py`: does it fail?), a *limit* (`limit.py`: how many calls at once does it bear?) and a *rate* (`rate.py`: how
many a second may it be given?). `guard.py` asks them in turn. `faults.py` and `provider.py` say what a failure is
counted against, `hosts.py` how far behind a provider it reaches, and `memory.py` bounds what is remembered. Where a
channel has several providers, `balance.py` says which is next.

Answers. A `Permit` is one call that may be made, by a named provider. A refusal that ends within about two seconds is
waited for in memory, in the callee's queue (`InQueue`), as far as there is room: a queue holds only what its callee can
serve in that time. What does not fit is parked (`ParkFor`, `parks.py`): it goes down the delay line, attempt and rung
unchanged, so that nothing waits behind it. If every provider of a channel refuses (`Shut`), nothing more is taken from
the log.

After an outage. A few probes go first; what closes the circuit sets the limit low, and it doubles once a second while
calls go well. Providers get their weight back in tenths. What was parked is brought back by the delay line, in growing
steps too, once the worker has said in `pabal.ops` who is back (`worker/recovery_notices.py`).

State. In memory, per worker: another worker finds out for itself within `minimum_calls`. Nothing here reads a clock.
"""

from pabal.guard.brake_trigger import BrakeTrigger
from pabal.guard.callee import Callee
from pabal.guard.guard import Full, Guard, InQueue, NoSuchProvider, ParkFor, Permit, Shut
from pabal.guard.parks import LONGEST_PARK_SECONDS
from pabal.guard.provider import Guarded, ProviderStanding
from pabal.guard.settings import DEFAULT_GUARD, GuardSettings

__all__ = [
    "DEFAULT_GUARD",
    "LONGEST_PARK_SECONDS",
    "BrakeTrigger",
    "Callee",
    "Full",
    "Guard",
    "GuardSettings",
    "Guarded",
    "InQueue",
    "NoSuchProvider",
    "ParkFor",
    "Permit",
    "ProviderStanding",
    "Shut",
]
