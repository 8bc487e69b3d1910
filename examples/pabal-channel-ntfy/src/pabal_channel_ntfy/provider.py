"""The provider `ntfy`: publishes to one ntfy server (https://docs.ntfy.sh/publish/#publish-as-json)."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final

import msgspec

from pabal.channels.port import Rendered
from pabal.clock import Clock
from pabal.outcome import Outcome
from pabal.providers.addresses import EVERYWHERE, AddressGuard
from pabal.providers.http import AnswerNote, HttpAnswer, HttpClient, Meaning, json_body, outcome_of
from pabal.providers.options import Options, read_options
from pabal.providers.port import Provider, ProviderContext

_MEANINGS: Final[Mapping[int | str, Meaning]] = {
    400: "rejected",  # a topic or a text that ntfy does not take
    401: "misconfigured",
    403: "misconfigured",  # the token may not publish there
    404: "misconfigured",  # no ntfy at this URL
    413: "rejected",
    # 429 and 5xx: later.
}


class NtfyOptions(Options, frozen=True, kw_only=True):
    """The table `[providers.ntfy]`. `url` is the server's, `token` an access token, where it wants one."""

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s]+\Z")] = "https://ntfy.sh/"
    token: str | None = None
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=60)] = 10.0


class NtfyProvider:
    """See `pabal.providers.port.Provider`."""

    channel = "ntfy"
    deduplicates_for: timedelta | None = None
    """ntfy has no idempotency key: a second call is a second notification."""

    def __init__(self, options: NtfyOptions, *, clock: Clock) -> None:
        self.timeout_seconds = options.timeout_seconds
        self._url = options.url
        self._headers = {} if options.token is None else {"authorization": f"Bearer {options.token}"}
        self._clock = clock
        # The operator chose the URL, not a caller: it may well be in the network that Pabal stands in.
        self._http = HttpClient(
            guard=AddressGuard(allow=EVERYWHERE),
            timeout_seconds=options.timeout_seconds,
            user_agent="pabal-channel-ntfy/1.0",
            kept_bytes=16 * 1024,  # the answer repeats the message
        )

    async def send(self, rendered: Rendered, *, to: str, tenant: str, idempotency_key: str) -> Outcome:
        """Publish once. The key goes along as a header: ntfy makes nothing of it, a proxy's log may."""
        del tenant
        message: dict[str, Any] = {"topic": to, "message": rendered.body}
        if rendered.subject:
            message["title"] = rendered.subject
        if "click" in rendered.headers:
            message["click"] = rendered.headers["click"]
        if "priority" in rendered.headers:
            message["priority"] = int(rendered.headers["priority"])
        exchange = await self._http.request(
            "POST", self._url, body=json_body(message), headers={**self._headers, "x-request-id": idempotency_key}
        )
        return outcome_of(exchange, by="ntfy", now=self._clock.now(), meanings=_MEANINGS, note=_note)

    async def close(self) -> None:
        """See `Provider.close`."""
        await self._http.close()


class _Answer(msgspec.Struct):
    """What ntfy answers: the id of the message, or what is wrong."""

    id: str | None = None
    error: str | None = None


def _note(answer: HttpAnswer) -> AnswerNote:
    said = answer.read(_Answer) or _Answer()
    return AnswerNote(word=said.error, provider_id=said.id)


def create(options: Mapping[str, Any], context: ProviderContext) -> Provider:
    """The entry point. Reads the options and opens nothing."""
    return NtfyProvider(read_options(options, NtfyOptions, path="$.providers.ntfy"), clock=context.clock)
