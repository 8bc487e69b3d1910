"""`POST /v1/notifications/batch`: up to 500 notifications, each judged by itself, in one append.

Answers: 202 when every item was accepted, 207 when at least one was not and the others were; either way one result
per item, in order. When the append is in doubt the whole answer is a 503 problem, which also carries the results:
the keys in them, given or made, are what to send the batch again with.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from pabal.api.acceptance import MAX_BODY_BYTES, Acceptance, Prepared, refused_by_log
from pabal.api.asgi import Answer, check_json, read_body, read_head
from pabal.api.decoding import check_idempotency_key, decode
from pabal.api.keys import Keyring
from pabal.api.messages import BatchAnswer, BatchItem, BatchProblem, BatchResult, RawBatch
from pabal.api.problems import Refused, defect, refuse_field
from pabal.api.traced import caller_trace
from pabal.broker.port import NewRecord
from pabal.errors import RecordRefused
from pabal.tracing.context import Trace

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
MAX_BATCH_DELIVERIES: Final = 5000
MAX_BATCH_EXPANDED_BYTES: Final = 16 * 1024 * 1024
"""Of all items together: one append, so that one caller does not fill the producer's queue for the others."""

logger = logging.getLogger(__name__)


class BatchEndpoint:
    """A plain ASGI application."""

    def __init__(self, *, keyring: Keyring, acceptance: Acceptance, new_key: Callable[[], str]) -> None:
        """`new_key` makes idempotency keys for items that carry none."""
        self._keyring = keyring
        self._acceptance = acceptance
        self._new_key = new_key
        self._batch_decoder = msgspec.json.Decoder(RawBatch)
        self._item_decoder = msgspec.json.Decoder(BatchItem)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        try:
            head = read_head(scope)
            caller = self._keyring.caller(head.get(b"authorization"), scope="send")
            if b"idempotency-key" in head:
                raise Refused("idempotency_key_on_batch", "give each item its own `idempotency_key` instead")
            check_json(head)
            batch = decode(self._batch_decoder, await read_body(receive, head, limit=MAX_BATCH_BYTES))
            answer = await self._accept(batch.notifications, tenant=caller.tenant, trace=caller_trace(scope, head))
        except Refused as refused:
            answer = Answer(status=refused.status, body=refused.problem(), headers=refused.headers)
        except ClientDisconnect:
            return
        except Exception:  # The boundary, as in `notifications.py`.
            logger.exception("a batch met a defect")
            answer = Answer(status=500, body=defect().problem())
        await answer.send(send)

    async def _accept(self, items: Sequence[msgspec.Raw], *, tenant: str, trace: Trace) -> Answer:
        load = _Load()
        for index, item in enumerate(items):
            root = f"$.notifications[{index}]"
            await self._judge(item, root=root, tenant=tenant, trace=trace, load=load)
            # A batch is up to half a second of work; the requests beside it must not wait for all of it.
            await asyncio.sleep(0)
        if load.deliveries:
            self._acceptance.admit(tenant, deliveries=load.deliveries)
        try:
            while load.records:
                try:
                    await self._acceptance.append(load.records)
                except RecordRefused as error:
                    load.refuse(error)
                else:
                    break
        except Refused as refused:
            return _in_doubt(refused, load.results)
        status = 202 if all(result.status == 202 for result in load.results) else 207
        return Answer(status=status, body=BatchAnswer(results=tuple(load.results)))

    async def _judge(self, item: msgspec.Raw, *, root: str, tenant: str, trace: Trace, load: "_Load") -> None:
        key: str | None = None
        try:
            if (size := len(memoryview(item))) > MAX_BODY_BYTES:
                message = f"has {size} bytes; a notification has at most {MAX_BODY_BYTES}"
                raise refuse_field("body_too_large", path=root, message=message)
            request = decode(self._item_decoder, item, root=root)
            path = f"{root}.idempotency_key"
            if request.idempotency_key is None:
                key = self._new_key()
            else:
                key = check_idempotency_key(request.idempotency_key, path=path)
            prepared = await self._acceptance.prepare(
                request, tenant=tenant, idempotency_key=key, trace=trace, root=root
            )
            load.take(prepared, key=key, root=root)
        except Refused as refused:
            problem = refused.problem()
            load.results.append(BatchResult(status=problem.status, idempotency_key=key, problem=problem))


class _Load:
    """What a batch has come to so far."""

    def __init__(self) -> None:
        self.records: list[NewRecord] = []
        self.results: list[BatchResult] = []
        self.deliveries = 0
        self._items: list[int] = []
        self._size = 0
        self._keys: set[str] = set()

    def take(self, prepared: Prepared, *, key: str, root: str) -> None:
        """Add an item. Raises Refused: duplicate_idempotency_key, batch_too_large."""
        if key in self._keys:
            message = "occurs twice in this batch; two items with one key would be one notification"
            raise refuse_field("duplicate_idempotency_key", path=f"{root}.idempotency_key", message=message)
        if (
            self.deliveries + len(prepared.accepted.deliveries) > MAX_BATCH_DELIVERIES
            or self._size + prepared.size > MAX_BATCH_EXPANDED_BYTES
        ):
            message = (
                f"does not fit any more: a batch comes to at most {MAX_BATCH_DELIVERIES} deliveries and "
                f"{MAX_BATCH_EXPANDED_BYTES} bytes; send this item in another one"
            )
            raise refuse_field("batch_too_large", path=root, message=message)
        self._keys.add(key)
        self._size += prepared.size
        self.deliveries += len(prepared.accepted.deliveries)
        self.records += prepared.records
        self._items += [len(self.results)] * len(prepared.records)
        self.results.append(BatchResult(status=202, idempotency_key=key, accepted=prepared.accepted))

    def refuse(self, error: RecordRefused) -> None:
        """Drop the items whose records the log refuses; the others may be appended again."""
        bad = {self._items[index] for index in error.indexes} or set(self._items)
        for item in bad:
            problem = refused_by_log(error, root=f"$.notifications[{item}]").problem()
            key = self.results[item].idempotency_key
            self.results[item] = BatchResult(status=problem.status, idempotency_key=key, problem=problem)
        kept = [(record, item) for record, item in zip(self.records, self._items, strict=True) if item not in bad]
        self.records = [record for record, _ in kept]
        self._items = [item for _, item in kept]


def _in_doubt(refused: Refused, results: Sequence[BatchResult]) -> Answer:
    """The good items share the append's fate; the bad ones are known to be refused."""
    doubtful = refused.problem()
    results = tuple(
        result
        if result.accepted is None
        else BatchResult(status=doubtful.status, idempotency_key=result.idempotency_key, problem=doubtful)
        for result in results
    )
    body = BatchProblem(**msgspec.structs.asdict(doubtful), results=results)
    return Answer(status=doubtful.status, body=body, headers=refused.headers)
