"""`POST /v1/notifications`: one notification, accepted or told in full why not."""

import logging
from collections.abc import Callable

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from pabal.api.acceptance import MAX_BODY_BYTES, Acceptance, refused_by_log
from pabal.api.asgi import Answer, check_json, count_fields, read_body, read_head
from pabal.api.decoding import decode, read_idempotency_key
from pabal.api.keys import Keyring
from pabal.api.problems import Refused, defect
from pabal.api.traced import caller_trace
from pabal.errors import RecordRefused
from pabal.plan import NotificationRequest

logger = logging.getLogger(__name__)


class NotificationsEndpoint:
    """A plain ASGI application: this is the path whose cost is counted in microseconds."""

    def __init__(self, *, keyring: Keyring, acceptance: Acceptance, new_key: Callable[[], str]) -> None:
        """`new_key` makes idempotency keys for callers that send none."""
        self._keyring = keyring
        self._acceptance = acceptance
        self._new_key = new_key
        self._decoder = msgspec.json.Decoder(NotificationRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. From the moment it is known, the idempotency key goes with every answer."""
        key: str | None = None
        try:
            head = read_head(scope)
            caller = self._keyring.caller(head.get(b"authorization"), scope="send")
            given = head.get(b"idempotency-key")
            key = (
                self._new_key()
                if given is None
                else read_idempotency_key(given, times=count_fields(scope, b"idempotency-key"))
            )
            check_json(head)
            request = decode(self._decoder, await read_body(receive, head, limit=MAX_BODY_BYTES))
            prepared = await self._acceptance.prepare(
                request, tenant=caller.tenant, idempotency_key=key, trace=caller_trace(scope, head)
            )
            self._acceptance.admit(caller.tenant, deliveries=len(prepared.accepted.deliveries))
            await self._acceptance.append(prepared.records)
            answer = Answer(status=202, body=prepared.accepted, headers=_key_header(key))
        except Refused as refused:
            answer = _refusal(refused, key=key)
        except RecordRefused as error:
            answer = _refusal(refused_by_log(error), key=key)
        except ClientDisconnect:
            return
        except Exception:  # The boundary: whatever our defect is, the caller needs the key to try again with.
            logger.exception("a request met a defect")
            answer = _refusal(defect(), key=key)
        await answer.send(send)


def _refusal(refused: Refused, *, key: str | None) -> Answer:
    return Answer(
        status=refused.status,
        body=refused.problem(idempotency_key=key),
        headers=(*refused.headers, *_key_header(key)),
    )


def _key_header(key: str | None) -> tuple[tuple[bytes, bytes], ...]:
    return () if key is None else ((b"idempotency-key", key.encode("ascii")),)
