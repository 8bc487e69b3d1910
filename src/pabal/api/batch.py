"""`POST /v1/notifications/batch`: up to 500 notifications, each judged by itself, in one append.

The answer is 202 when every item was accepted, and 207 when at least one item was not. Either way it has one result per
item, in order. When the append is in doubt, the whole answer is a 503 problem with the results in it: the caller sends
the batch again with the keys that they name, given or made.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from pabal.api.acceptance import MAX_BODY_BYTES, Acceptance, Prepared
from pabal.api.asgi import ApiResponse
from pabal.api.bodies import JsonBody
from pabal.api.codes import LOG_CODES
from pabal.api.decoding import check_idempotency_key, decode
from pabal.api.messages import BatchAnswer, BatchItem, BatchProblem, BatchRequest, BatchResult, RawBatch
from pabal.api.notifications import EXAMPLE
from pabal.api.operation import Operation, Success
from pabal.api.problems import RequestRefused, refuse_field, refuse_record
from pabal.api.request import ApiRequest
from pabal.broker.port import NewRecord
from pabal.errors import RecordRefused
from pabal.plan import request_type
from pabal.tracing.context import Trace

MAX_BATCH_BYTES: Final = 4 * 1024 * 1024
MAX_BATCH_DELIVERIES: Final = 5000
MAX_BATCH_EXPANDED_BYTES: Final = 16 * 1024 * 1024
"""Of all items together: one append, so that one caller does not fill the producer's queue for the others."""

logger = logging.getLogger(__name__)


_ABOUT: Final = """Accept up to 500 notifications in one append. Each is judged by itself and has its own
result, in the order of the items: 202 when all were accepted, 207 when at least one was not. A 503 puts the whole
append in doubt: send the batch again with the keys of its `results`. Needs the scope `send`."""


class Batches:
    """Accepts batches."""

    def __init__(self, *, acceptance: Acceptance, new_key: Callable[[], str]) -> None:
        """`new_key` makes idempotency keys for items that carry none."""
        self._acceptance = acceptance
        self._new_key = new_key
        self._item_decoder = msgspec.json.Decoder(request_type(BatchItem))

    def operations(self) -> Sequence[Operation[Any, Any]]:
        """What the API takes."""
        example = {"notifications": [{**EXAMPLE, "idempotency_key": "order-17"}]}
        accept = Operation(
            method="POST",
            path="/v1/notifications/batch",
            scope="send",
            respond=self.accept,
            body=JsonBody(RawBatch, model=BatchRequest, limit=MAX_BATCH_BYTES, example=example),
            answers={
                202: Success("Every notification was accepted.", BatchAnswer),
                207: Success("At least one was not; each result has its own status.", BatchAnswer),
            },
            codes=("idempotency_key_on_batch", "quota_exceeded", *LOG_CODES),
            problems=dict.fromkeys(LOG_CODES, BatchProblem),
            name="acceptBatch",
            summary="Accept up to 500 notifications",
            about=_ABOUT,
            is_traced=True,
        )
        return (accept,)

    async def accept(self, request: ApiRequest[None, RawBatch]) -> ApiResponse:
        """Accept a batch."""
        if b"idempotency-key" in request.head:
            raise RequestRefused("idempotency_key_on_batch", "give each item its own `idempotency_key` instead")
        items = (await request.body()).notifications
        return await self._accept(items, tenant=request.caller.tenant, trace=request.trace())

    async def _accept(self, items: Sequence[msgspec.Raw], *, tenant: str, trace: Trace) -> ApiResponse:
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
                    logger.warning("not accepted: %s", error)
                    load.refuse(error)
                else:
                    for result in load.results:
                        if result.accepted is not None:
                            self._acceptance.count(result.accepted)
                    break
        except RequestRefused as refused:
            return _in_doubt(refused, load.results)
        status = 202 if all(result.status == 202 for result in load.results) else 207
        return ApiResponse(status=status, body=BatchAnswer(results=tuple(load.results)))

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
        except RequestRefused as refused:
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
        """Add an item. Raises RequestRefused: duplicate_idempotency_key, batch_too_large."""
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
        """Drop the items whose records the log refuses; the other items may be appended again."""
        bad = {self._items[index] for index in error.indexes} or set(self._items)
        for item in bad:
            problem = refuse_record(error, root=f"$.notifications[{item}]").problem()
            key = self.results[item].idempotency_key
            self.results[item] = BatchResult(status=problem.status, idempotency_key=key, problem=problem)
        kept = [(record, item) for record, item in zip(self.records, self._items, strict=True) if item not in bad]
        self.records = [record for record, _ in kept]
        self._items = [item for _, item in kept]


def _in_doubt(refused: RequestRefused, results: Sequence[BatchResult]) -> ApiResponse:
    """The good items are in doubt like the append; the bad items are known to be refused."""
    doubtful = refused.problem()
    results = tuple(
        result
        if result.accepted is None
        else BatchResult(status=doubtful.status, idempotency_key=result.idempotency_key, problem=doubtful)
        for result in results
    )
    body = BatchProblem(**msgspec.structs.asdict(doubtful), results=results)
    return ApiResponse(status=doubtful.status, body=body, headers=refused.headers)
