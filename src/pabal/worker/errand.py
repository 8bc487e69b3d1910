"""What one call slot is busy with (`Errand`), and what comes of it (`End`)."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.guard import Permit
from pabal.notification import Delivery
from pabal.outcome import Outcome, Verdict
from pabal.worker.deed import Deed


class Errand(msgspec.Struct, kw_only=True, gc=False, eq=False):
    """One delivery, from the record in hand to its verdict. The steps of `Deliverer.call` fill it in, one by one.

    `origin` is the record that the delivery came in, and `group` is the consumer group that read it. `provider` names
    the provider that carries it; `permit` is the guard's. `owner` and `token` name the claim that the end settles. The
    errand began at `begun_at`, in seconds of the boot clock. `at` is the time of its last step, for the records of it.
    """

    delivery: Delivery
    origin: Record
    group: str
    provider: str
    permit: Permit | None = None
    owner: int = 0
    token: int = 0
    begun_at: float = 0.0
    refusal: Verdict | None = None
    """What speaks against any call, if anything does."""

    at: datetime
    attempt: int
    """Which attempt this is about: at first the record's own, at last the verdict's."""

    lost: range = range(0)
    """The attempts before it that ended in a takeover: their calls were lost with other workers."""

    outcome: Outcome | None = None
    """What the call came to; None: this worker made none."""

    latency_seconds: float | None = None


class Claimed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Names a claim."""

    delivery: UUID
    owner: int
    token: int


class End(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stored verdict on its way into the log: records to append, and the claim that is settled by that.

    Bytes that cannot be read have no claim. `deed` is what was done, if there are observers.
    """

    records: Sequence[NewRecord]
    claim: Claimed | None = None
    deed: Deed | None = None
