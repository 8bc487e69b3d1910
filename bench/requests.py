"""The requests of a run: 500-byte notification bodies, one webhook delivery each, rendered before the clock starts."""

import uuid

import msgspec

BODY_BYTES = 500


def render_requests(count: int, *, host: str, port: int, hook: str, api_key: str | None, first: int = 0) -> list[bytes]:
    """`count` HTTP requests, each with a body of its own and an idempotency key of its own."""
    authorization = f"authorization: Bearer {api_key}\r\n" if api_key else ""
    run = uuid.uuid4().hex[:12]
    return [
        (
            f"POST /v1/notifications HTTP/1.1\r\nhost: {host}:{port}\r\n{authorization}"
            f"content-type: application/json\r\ncontent-length: {BODY_BYTES}\r\n"
            f"idempotency-key: {run}-{number:08d}\r\n\r\n"
        ).encode()
        + render_body(number, hook=hook)
        for number in range(first, first + count)
    ]


def render_body(number: int, *, hook: str) -> bytes:
    """One notification to one webhook, padded to exactly `BODY_BYTES`."""
    notification = {
        "to": [{"channel": "webhook", "address": hook}],
        "class": "standard",
        "content": {"title": f"Order {number} shipped", "body": "", "data": {"order": number}},
    }
    text = "Your parcel is on its way. " * 20
    room = BODY_BYTES - len(msgspec.json.encode(notification))
    notification["content"]["body"] = text[:room]  # type: ignore[index]
    body = msgspec.json.encode(notification)
    assert len(body) == BODY_BYTES, len(body)
    return body
