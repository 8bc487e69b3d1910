"""Every error code of the API: its status, its meaning, and what a caller can do.

A code is stable: callers write programs against it. A new code needs an entry here and a heading in `docs/api.md`.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from pabal.plan import FlawCode
from pabal.serving.refusal import MEANINGS, RefusalCode

Code = (
    FlawCode
    | RefusalCode
    | Literal[
        "batch_too_large",
        "body_too_large",
        "duplicate_idempotency_key",
        "expansion_too_large",
        "idempotency_key_on_batch",
        "insufficient_scope",
        "internal_error",
        "invalid_field",
        "invalid_idempotency_key",
        "invalid_json",
        "invalid_key",
        "invalid_parameter",
        "invalid_request",
        "ledger_unavailable",
        "letter_refused",
        "log_unavailable",
        "method_not_allowed",
        "missing_field",
        "missing_key",
        "no_store",
        "not_alive",
        "not_found",
        "not_recorded_yet",
        "quota_exceeded",
        "receipt_refused",
        "redrive_held",
        "record_refused",
        "rendering_unavailable",
        "store_unavailable",
        "topics_missing",
        "unknown_field",
        "unreadable_receipt",
        "unsupported_media_type",
    ]
)


class Kind(msgspec.Struct, frozen=True):
    """What all problems of one code have in common. `title` never varies (RFC 9457 §3.1.4)."""

    status: int
    title: str
    advice: str


KINDS: Final[Mapping[Code, Kind]] = {
    "batch_too_large": Kind(
        413,
        "The batch comes to more than one append carries",
        "A batch comes to at most 5,000 deliveries and 16 MiB. Send this item again in another batch.",
    ),
    "body_too_large": Kind(
        413,
        "The body is too large",
        "A notification has at most 256 KiB, a batch 4 MiB. Put long texts into a template and send its data only.",
    ),
    "content_or_template": Kind(
        422, "Exactly one of content and template is needed", "Give `content`, or `template` with its `data`."
    ),
    "data_without_template": Kind(
        422, "Data is for templates", "The outer `data` is what a template is rendered with. Write `content.data`."
    ),
    "duplicate_idempotency_key": Kind(
        422,
        "An idempotency key occurs twice in the batch",
        "Two items with one key would be one notification. The first is judged as usual, this one was not taken.",
    ),
    "expansion_too_large": Kind(
        413,
        "The notification is too large once fanned out",
        "Every delivery carries its content: at most 4 MiB in all and 900 KiB each. Use a template, of which a "
        "delivery carries the name and the data alone, or fewer recipients per request.",
    ),
    "idempotency_key_on_batch": Kind(
        400, "A batch takes a key per item, not in the header", "Give each item its own `idempotency_key`."
    ),
    "insufficient_scope": Kind(
        403,
        "The API key may not do this",
        "The answer's `WWW-Authenticate` names the scope. Add it to the key's entry.",
    ),
    "internal_error": Kind(
        500, "A defect of Pabal", "Please report it with what Pabal logged. Trying again with the same key is safe."
    ),
    "invalid_address": Kind(
        422,
        "An address cannot be carried by its channel",
        "The message says what is wrong with it. Mend or leave it out.",
    ),
    "invalid_expires_at": Kind(
        422, "The expiry leaves no time to send", "Give a time after now, and after `send_at` if there is one."
    ),
    "invalid_field": Kind(422, "A field's value does not fit", "The path names the field, the message what it takes."),
    "invalid_idempotency_key": Kind(
        400,
        "The idempotency key cannot be used",
        "Send one key of 1 to 255 visible ASCII characters without spaces. A UUID is a good one.",
    ),
    "invalid_json": Kind(400, "The body is not JSON", "Send one JSON object, encoded as UTF-8."),
    "invalid_key": Kind(
        401, "The API key is not known", "Make one with `pabal key new` and put its hash into the configuration."
    ),
    "invalid_parameter": Kind(
        422, "A query parameter does not fit", "The path names the parameter, the message what it takes."
    ),
    "invalid_request": Kind(
        422, "Several things are wrong with the request", "Each entry of `errors` has a code of its own."
    ),
    "invalid_send_at": Kind(422, "The send time is too far ahead", "Give a time at most 30 days ahead."),
    "ledger_unavailable": Kind(
        503,
        "The ledger did not answer",
        "Without it nothing can be taken back. Try again after `Retry-After`; asking twice is safe.",
    ),
    "letter_refused": Kind(
        409,
        "The dead letter does not allow this",
        "The message says why: it is closed, cannot be read, or may have been sent; more letters fit than `at_most`; "
        "the redrive has ended.",
    ),
    "log_unavailable": Kind(
        503,
        "The log did not answer in time",
        "It is not known whether the request was taken. Send it again after `Retry-After` with the `idempotency_key` "
        "of this answer: that completes it and sends nothing twice.",
    ),
    "method_not_allowed": Kind(405, "The resource does not take this method", "`Allow` names those that it takes."),
    "missing_field": Kind(422, "A required field is missing", "The path names the field."),
    "missing_key": Kind(401, "An API key is needed", "Send the header `Authorization: Bearer KEY`."),
    "nested_too_deeply": Kind(
        422, "The data is nested too deeply", "Arrays and objects may be nested 100 levels deep."
    ),
    "no_store": Kind(
        501,
        "This API has no store",
        "Look-ups need the store that `pabal recorder` fills: name it in the configuration of the API too.",
    ),
    "not_alive": Kind(
        503,
        "A part of this process has died or stands still",
        "The message says which. Start the process again: nothing that was accepted is lost.",
    ),
    "not_found": Kind(404, "There is no such resource", "`/openapi.json` lists all there are."),
    "not_recorded_yet": Kind(
        404,
        "Nothing of that id is recorded yet",
        "The recorder is `lag_records` records behind. Ask again after `Retry-After`, or with `?wait=2`.",
    ),
    "quota_exceeded": Kind(
        429,
        "The tenant's quota is used up",
        "Nothing was taken. Send the same request again after `Retry-After`.",
    ),
    "receipt_refused": Kind(
        401,
        "The callback does not prove where it comes from",
        "Sign it as the provider's page of the manual says, with a secret that is configured here.",
    ),
    "record_refused": Kind(
        413,
        "The log refuses a record of this size",
        "The operator's limit (`max.message.bytes`) is smaller than what this comes to. Put long texts into a "
        "template, and send again with the same key.",
    ),
    "redrive_held": Kind(
        409,
        "Another redrive works on these dead letters",
        "One at a time. Wait for it to end, or cancel it if it is yours.",
    ),
    "rendering_unavailable": Kind(
        503,
        "Large templates cannot be rendered now",
        "Nothing was taken. Too many wait to be rendered, or the process that does it cannot be started. Send the "
        "same request again after `Retry-After`. Small templates do not need that process.",
    ),
    "store_unavailable": Kind(
        503, "The store did not answer", "Accepting and sending do not need it. Ask again after `Retry-After`."
    ),
    "template_failed": Kind(
        422,
        "The template does not render with this data",
        "The message names the part of the template and what it lacks. Every blank needs a value in `data`.",
    ),
    "too_many_deliveries": Kind(
        413,
        "The notification has too many deliveries",
        "A notification has at most 500 recipients. Put what is said into a template and send several requests.",
    ),
    "topics_missing": Kind(
        503, "The log lacks Pabal's topics", "The operator creates them with `pabal topics create --log URL`."
    ),
    "unknown_channel": Kind(
        422, "The channel does not exist here", "The message lists the channels of this installation."
    ),
    "unknown_field": Kind(422, "The field does not exist", "The path names it, the message the fields there are."),
    "unknown_template": Kind(
        422, "The template does not exist here", "The message lists the templates of this installation."
    ),
    "unreadable_receipt": Kind(
        422, "The callback cannot be read", "Its signature is good; the message says what of it does not fit."
    ),
    "unsupported_media_type": Kind(
        415, "The body must be application/json", "Send `Content-Type: application/json` and no `Content-Encoding`."
    ),
    "unusable_content": Kind(
        422, "A channel cannot carry this content", "The message says what the channel needs, such as a title."
    ),
    **{code: Kind(each.status.value, each.title, each.advice) for code, each in MEANINGS.items()},
}
"""Every code there is; `docs/api.md` has a heading for each, and `/docs` of a running API an anchor."""

KEY_CODES: Final[tuple[Code, ...]] = ("missing_key", "invalid_key", "insufficient_scope")
"""What is wrong with a key."""

JSON_CODES: Final[tuple[Code, ...]] = (
    "invalid_json",
    "body_timeout",
    "body_too_large",
    "unsupported_media_type",
    "nested_too_deeply",
    "invalid_field",
    "missing_field",
    "unknown_field",
)
"""What is wrong with a JSON body, before it is looked at more closely."""

LOG_CODES: Final[tuple[Code, ...]] = ("log_unavailable", "topics_missing")
"""What is answered when an append fails."""
