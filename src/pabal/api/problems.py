"""RequestRefused requests, and the document that tells a caller why (RFC 9457). The codes stand in `codes.py`."""

from collections.abc import Sequence
from typing import Final

import msgspec

from pabal.api.codes import KINDS, Code
from pabal.errors import PabalError, RecordRefused
from pabal.plan import Flaw

RETRY_AFTER_SECONDS: Final = 2
"""What a 503 asks for: long enough for a new leader to be elected, short for a caller that waits."""


class BodyError(msgspec.Struct, frozen=True, kw_only=True):
    """One thing wrong with the body: where, by which rule, and what would do."""

    path: str
    code: str
    message: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was not accepted (RFC 9457). `lag_records`: how many records the look-ups are behind the log."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    errors: tuple[BodyError, ...] = ()
    idempotency_key: str | None = None
    lag_records: int | None = None


class RequestRefused(PabalError):
    """A request that ends here, with a problem to show for it. Never leaves the package.

    `headers` are the answer's own, such as `WWW-Authenticate`.
    """

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        errors: Sequence[BodyError] = (),
        headers: Sequence[tuple[bytes, bytes]] = (),
        lag_records: int | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code: Code = code
        self.lag_records = lag_records
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = tuple(headers)

    @property
    def status(self) -> int:
        """The HTTP status of the code."""
        return KINDS[self.code].status

    def problem(self, *, idempotency_key: str | None = None) -> Problem:
        """The document for the caller. `type` resolves on this host to what the code means and what to do."""
        kind = KINDS[self.code]
        return Problem(
            type=f"/docs#{self.code}",
            title=kind.title,
            status=kind.status,
            code=self.code,
            detail=self.detail,
            errors=self.errors,
            idempotency_key=idempotency_key,
            lag_records=self.lag_records,
        )


def refuse_flaws(flaws: Sequence[Flaw], *, root: str) -> RequestRefused:
    """All flaws of a request as one refusal: under the code that they share, else under `invalid_request`.

    `root` replaces the `$` of the paths: where the request stands in the body.
    """
    errors = [BodyError(path=root + flaw.path[1:], code=flaw.code, message=flaw.message) for flaw in flaws]
    first = flaws[0]
    if len(errors) == 1:
        return RequestRefused(first.code, f"{errors[0].path}: {first.message}", errors=errors)
    code: Code = first.code if len({flaw.code for flaw in flaws}) == 1 else "invalid_request"
    return RequestRefused(code, f"{len(errors)} things are wrong; see `errors`", errors=errors)


def refuse_field(code: Code, *, path: str, message: str) -> RequestRefused:
    """One field of the body is at fault."""
    return RequestRefused(code, f"{path}: {message}", errors=[BodyError(path=path, code=code, message=message)])


def refuse_parameter(name: str, message: str) -> RequestRefused:
    """One parameter of the query is at fault."""
    path = f"?{name[:64]}"
    error = BodyError(path=path, code="invalid_parameter", message=message)
    return RequestRefused("invalid_parameter", f"{path}: {message}", errors=[error])


def refuse_record(error: RecordRefused, *, root: str = "$") -> RequestRefused:
    """The log will never take some of the records. `root` is where their notification stands in the body."""
    message = (
        f"the log refuses what this comes to: {error}. If it has several deliveries, some may have been taken; "
        "send less with the same idempotency key, and nothing is sent twice"
    )
    return refuse_field("record_refused", path=root, message=message)


def log_unavailable(detail: str) -> RequestRefused:
    """Whether the log took it is not known; trying again with the same idempotency key is safe."""
    return refuse_for_now("log_unavailable", detail)


def topics_missing(detail: str) -> RequestRefused:
    """The log answers but was not prepared; the detail names the command that prepares it."""
    return refuse_for_now("topics_missing", detail)


def refuse_for_now(code: Code, detail: str) -> RequestRefused:
    """Something that we need is away; the answer says when to ask again."""
    return RequestRefused(code, detail, headers=[(b"retry-after", b"%d" % RETRY_AFTER_SECONDS)])


def defect() -> RequestRefused:
    """Our own fault; the log file has the trace."""
    return RequestRefused(
        "internal_error", "this is a defect of Pabal; its log says more. Trying again with the key is safe"
    )
