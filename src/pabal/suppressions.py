"""Addresses that must not be written to: from receipts into the log, and from the log into the gate.

The state is the compacted topic `pabal.suppressions`, one record per tenant, channel and address; a tombstone lifts
it. So a complaint outlives every rebuild of a store and every new ledger.

    receipt ─ Suppressor (recorder) ─▶ pabal.suppressions ─ GateFollower (worker) ─▶ the ledger's table, for each claim
                                                           ─ SuppressionList (api) ─▶ GET /v1/suppressions

A process that needs the state reads the topic whole, by offset, and then on from there. A reader that stayed away for
longer than tombstones are kept reads the topic whole again.

The key names the address, so a value that cannot be read suppresses it all the same, until a suppression that can be
read or a tombstone follows: compaction may have removed the record before the unreadable one.
"""

import asyncio
import bisect
import contextlib
import functools
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from pabal.broker.port import Producer, Reader, Record
from pabal.channels.suppression import suppression_key
from pabal.clock import Clock
from pabal.codec import read_suppression, suppression_record
from pabal.errors import DecodeError, LogError
from pabal.ledger.port import Ledger
from pabal.notification import SUPPRESSIONS_TOPIC, Receipt, Suppression, SuppressionReason
from pabal.runtime import insist
from pabal.store.port import DeliveryView, Store, StoredFact
from pabal.tail import Tail
from pabal.unreadable import Unreadable

FOLLOW_EVERY_SECONDS: Final = 0.5
"""How often the gate asks for new suppressions."""

ANEW_AFTER: Final = timedelta(hours=12)
"""Half of what tombstones are kept for (Kafka's `delete.retention.ms`, the embedded log's `TOMBSTONE_SECONDS`)."""

MOST_KEY_BYTES: Final = 2600
"""A longer key names no address that can be asked for (a URL has 2,048 characters at most), and an index of
PostgreSQL takes no more than 2,704 bytes: the gate would wait for ever."""

MOST_DETAIL: Final = 1000
"""Characters of a provider's words that a suppression keeps."""

_STEP: Final = 1000
"""Suppressions of one transaction: others claim in between."""

logger = logging.getLogger(__name__)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One record of the topic: the suppression of an address, or (None) its end."""

    key: bytes
    suppression: Suppression | None


def reason_of(receipt: Receipt) -> SuppressionReason | None:
    """Why a receipt suppresses its address; None: it does not.

    Only what the far side calls permanent counts as a bounce: a full mailbox is emptied, a name that is slow to
    resolve comes back.
    """
    match receipt.kind:
        case "bounced" | "rejected":
            return "bounced" if receipt.is_permanent else None
        case "complained":
            return "complained"
        case "unsubscribed":
            return "unsubscribed"
        case _:
            return None


def suppression_of(receipt: Receipt, delivery: DeliveryView) -> Suppression | None:
    """What a receipt about a delivery means for its address. A receipt of another channel's provider means nothing."""
    reason = reason_of(receipt)
    if reason is None or receipt.channel not in (None, delivery.channel):
        return None
    return Suppression(
        tenant=delivery.tenant,
        channel=delivery.channel,
        address=delivery.address,
        reason=reason,
        since=receipt.at,
        detail=receipt.detail[:MOST_DETAIL] if receipt.detail else receipt.detail,
    )


class Suppressor:
    """Appends the suppressions that receipts ask for. The recorder calls it between its fold and its commit.

    `refused` counts suppressions of addresses that are longer than any address that can be asked for.
    """

    def __init__(self, *, store: Store, producer: Producer) -> None:
        self.refused = 0
        self._store = store
        self._producer = producer

    async def follow(self, folded: Sequence[StoredFact]) -> None:
        """Return once what these facts mean for addresses stands in the log. Safe to repeat.

        A receipt whose delivery is not known yet is held by the store, and comes with the fact that tells it.
        Raises StoreUnavailable, and what no waiting mends (`runtime.insist`).
        """
        reported = await self._store.reported(folded)
        suppressions = [found for receipt, delivery in reported if (found := suppression_of(receipt, delivery))]
        if suppressions:
            logger.info("addresses suppressed by receipts: %d", len(suppressions))
            records = [suppression_record(suppression) for suppression in suppressions]
            fitting = [record for record in records if len(record.key or b"") <= MOST_KEY_BYTES]
            if refused := len(records) - len(fitting):
                self.refused += refused
                logger.error("addresses too long to be suppressed: %d; no such address can be asked for", refused)
            await insist(lambda: self._producer.append(fitting))


class SuppressionReader:
    """Reads the topic: whole at first, and anew after half a day, else on from the last read. One task at a time.

    `unreadable` counts records that cannot be read.
    """

    def __init__(self, *, reader: Reader, clock: Clock) -> None:
        self.unreadable = Unreadable("suppressions")
        self._tail = Tail(SUPPRESSIONS_TOPIC, reader=reader)
        self._clock = clock
        self._read_at = clock.now()

    def is_to_be_read_whole(self) -> bool:
        """Whether the next `read_on` reads everything."""
        return self._tail.is_whole_next or abs(self._clock.now() - self._read_at) > ANEW_AFTER

    async def read_on(self) -> tuple[Sequence[Change], bool]:
        """The changes since the last read, the last of each key alone; and whether the changes are all there is, so
        that what was known is void. A read that fails has taken nothing.

        Raises LogError.
        """
        now = self._clock.now()
        if is_whole := self.is_to_be_read_whole():
            self._tail.begin_anew()
        changes: dict[bytes, Change] = {}
        try:
            async for record in self._tail.read_on():
                if (change := self._change_of(record)) is not None:
                    changes[change.key] = change
        except BaseException:
            # What was read before the failure is given to no caller: it must be read again.
            self._tail.undo()
            raise
        if self._tail.is_whole_next:
            # Records were deleted unread: the next read is of everything.
            return (), False
        self._read_at = now
        return list(changes.values()), is_whole

    def _change_of(self, record: Record) -> Change | None:
        key = record.key
        if key is None or len(key) > MOST_KEY_BYTES:
            self.unreadable.note(record, "no key of a suppression")
            return None
        try:
            return Change(key=key, suppression=read_suppression(record))
        except DecodeError as error:
            closed = _closed(key, record, error)
            self.unreadable.note(record, f"{error}{'; its address stays suppressed' if closed else ''}")
            return Change(key=key, suppression=closed) if closed else None


def _closed(key: bytes, record: Record, error: DecodeError) -> Suppression | None:
    """The suppression that a value which cannot be read stands for; None when the key names no address."""
    try:
        tenant, channel, address = key.decode().split("/", 2)
    except ValueError:
        return None
    if suppression_key(tenant=tenant, channel=channel, address=address) != key:
        return None
    since = datetime.fromtimestamp(record.timestamp, UTC)
    detail = f"{SUPPRESSIONS_TOPIC}/{record.partition}@{record.offset} cannot be read: {error}"
    return Suppression(tenant=tenant, channel=channel, address=address, reason="manual", since=since, detail=detail)


class GateFollower:
    """Keeps a ledger's table of suppressed addresses as the topic says. Every worker has one: it may not claim before
    it knows which addresses must not be written to."""

    def __init__(self, *, reader: Reader, ledger: Ledger, clock: Clock) -> None:
        self._topic = SuppressionReader(reader=reader, clock=clock)
        self._ledger = ledger

    @property
    def unreadable(self) -> int:
        """Records that could not be read since the start."""
        return self._topic.unreadable.count

    async def catch_up(self, stopping: asyncio.Event) -> None:
        """Return once all there is has been taken over, or when told to stop. What is away is waited for.

        Raises what no waiting mends (`runtime.insist`).
        """
        while not stopping.is_set():
            try:
                await self.follow()
            except LogError as error:
                logger.warning("suppressions cannot be followed yet: %s", error)
                await _pause(stopping, seconds=FOLLOW_EVERY_SECONDS)
            else:
                return

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow until told to stop. Raises as `catch_up`."""
        while not stopping.is_set():
            await _pause(stopping, seconds=FOLLOW_EVERY_SECONDS)
            await self.catch_up(stopping)

    async def follow(self) -> None:
        """Take what is new into the ledger. Raises LogError."""
        # A suppression that was lifted while no worker looked may have lost its tombstone. The ledger is asked before
        # the topic is read: an address that it refuses by then, and that the topic does not hold, was lifted.
        refused = await insist(self._ledger.suppressed) if self._topic.is_to_be_read_whole() else ()
        changes, is_whole = await self._topic.read_on()
        suppressed = [change.suppression for change in changes if change.suppression is not None]
        lifted = {change.key for change in changes if change.suppression is None}
        if is_whole:
            lifted |= set(refused) - {change.key for change in changes}
        for start in range(0, len(suppressed), _STEP):
            some = suppressed[start : start + _STEP]
            await insist(functools.partial(self._ledger.suppress, some))
        if lifted:
            await insist(lambda: self._ledger.unsuppress(lifted))


async def _pause(stopping: asyncio.Event, *, seconds: float) -> None:
    """Wait, unless told to stop."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)


class SuppressionList:
    """What is suppressed, to be asked: reads on at each question, so that an answer holds what was written before.

    Costs about half a kilobyte of memory per suppression, in a process that is asked at all.
    """

    def __init__(self, *, reader: Reader, clock: Clock) -> None:
        self._topic = SuppressionReader(reader=reader, clock=clock)
        self._reading = asyncio.Lock()
        self._by_key: dict[bytes, Suppression] = {}
        self._keys: list[bytes] = []

    async def page(self, *, tenant: str, after: bytes | None, limit: int) -> Sequence[Suppression]:
        """Up to `limit` suppressions of a tenant by channel and address, from behind a key. Raises LogError."""
        await self._read_on()
        prefix = suppression_key(tenant=tenant, channel="", address="")[:-1]
        start = bisect.bisect_right(self._keys, after) if after is not None else bisect.bisect_left(self._keys, prefix)
        return [self._by_key[key] for key in self._keys[start : start + limit] if key.startswith(prefix)]

    async def find(self, key: bytes) -> Suppression | None:
        """The suppression of a key (`suppression_key`), if it is suppressed. Raises LogError."""
        await self._read_on()
        return self._by_key.get(key)

    async def _read_on(self) -> None:
        async with self._reading:
            changes, is_whole = await self._topic.read_on()
            if is_whole:
                self._by_key = {}
            for change in changes:
                if change.suppression is None:
                    self._by_key.pop(change.key, None)
                else:
                    self._by_key[change.key] = change.suppression
            if changes or is_whole:
                self._keys = sorted(self._by_key)
