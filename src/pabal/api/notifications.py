"""`POST /v1/notifications`: one notification, accepted or told in full why not."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from pabal.api.acceptance import MAX_BODY_BYTES, Acceptance
from pabal.api.asgi import ApiResponse
from pabal.api.bodies import JsonBody
from pabal.api.codes import LOG_CODES
from pabal.api.decoding import read_idempotency_key
from pabal.api.messages import AcceptedNotification
from pabal.api.operation import Operation, Part, Success
from pabal.api.request import ApiRequest
from pabal.plan import NotificationRequest, request_type

_ABOUT: Final = """Accept one notification. The same idempotency key within a tenant gives the same ids and is
not sent twice; of two different bodies under one key the first that is worked on wins. Without a key one is made.
The key is in every answer, also in an error: after a 503 send the request again with it. Needs the scope `send`."""

EXAMPLE: Final = {
    "to": [
        {"channel": "email", "address": "ana@example.com"},
        {"channel": "webhook", "address": "https://example.com/hook"},
    ],
    "class": "standard",
    "content": {"title": "Order 17 shipped", "body": "It arrives on Tuesday.", "data": {"order": 17}},
    "tags": ["order-17"],
}
"""A notification, as the OpenAPI document shows it."""

_KEY_FIELD: Final = "Idempotency-Key"
_KEY_SCHEMA: Final = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}


class Notifications:
    """Accepts single notifications. The cost of this path is counted in microseconds."""

    def __init__(self, *, acceptance: Acceptance, new_key: Callable[[], str]) -> None:
        """`new_key` makes idempotency keys for callers that send none."""
        self._acceptance = acceptance
        self._new_key = new_key

    def operations(self) -> Sequence[Operation[Any, Any]]:
        """What the API takes."""
        accept = Operation(
            method="POST",
            path="/v1/notifications",
            scope="send",
            respond=self.accept,
            headers={
                _KEY_FIELD: Part(
                    description="Names the notification within the tenant. Made by the server when absent.",
                    schema=_KEY_SCHEMA,
                )
            },
            body=JsonBody(
                request_type(NotificationRequest), model=NotificationRequest, limit=MAX_BODY_BYTES, example=EXAMPLE
            ),
            answers={
                202: Success(
                    "Every delivery stands in the log.",
                    AcceptedNotification,
                    {_KEY_FIELD: Part(description="Given or made; send it again with a retry.", schema=_KEY_SCHEMA)},
                )
            },
            codes=(
                "invalid_idempotency_key",
                "content_or_template",
                "data_without_template",
                "expansion_too_large",
                "invalid_address",
                "invalid_expires_at",
                "invalid_request",
                "invalid_send_at",
                "quota_exceeded",
                "record_refused",
                "rendering_unavailable",
                "template_failed",
                "too_many_deliveries",
                "unknown_channel",
                "unknown_template",
                "unusable_content",
                *LOG_CODES,
            ),
            name="acceptNotification",
            summary="Accept a notification",
            about=_ABOUT,
            is_traced=True,
        )
        return (accept,)

    async def accept(self, request: ApiRequest[None, NotificationRequest]) -> ApiResponse:
        """Accept a notification."""
        given = request.head.get(b"idempotency-key")
        key = self._new_key() if given is None else read_idempotency_key(given, times=request.count(b"idempotency-key"))
        request.idempotency_key = key
        asked, tenant = await request.body(), request.caller.tenant
        prepared = await self._acceptance.prepare(asked, tenant=tenant, idempotency_key=key, trace=request.trace())
        self._acceptance.admit(tenant, deliveries=len(prepared.accepted.deliveries))
        await self._acceptance.append(prepared.records)
        self._acceptance.count(prepared.accepted)
        return ApiResponse(status=202, body=prepared.accepted, headers=((b"idempotency-key", key.encode("ascii")),))
