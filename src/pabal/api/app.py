"""The application: routes, and problems where no endpoint is to answer."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pabal.api.acceptance import Acceptance
from pabal.api.asgi import Answer, encode_json
from pabal.api.batch import BatchEndpoint
from pabal.api.cancelling import Cancelling
from pabal.api.dead_letters import DeadLetterOperations
from pabal.api.endpoint import Call, Endpoint
from pabal.api.front import FrontEndpoint
from pabal.api.health import HealthEndpoint, ReadinessEndpoint
from pabal.api.keys import Keyring
from pabal.api.ledger import LedgerAtNeed
from pabal.api.lookups import Lookups
from pabal.api.notifications import NotificationsEndpoint
from pabal.api.openapi import describe_api
from pabal.api.page import HEADERS, render_page
from pabal.api.problems import Refused, defect
from pabal.api.projection import Projection
from pabal.api.quotas import Quotas
from pabal.api.receipts import TakingReceipts
from pabal.api.redrives import RedriveOperations
from pabal.api.suppressing import Suppressing
from pabal.api.traced import traced
from pabal.broker.port import Admin, Producer, Reader
from pabal.channels.port import Channel
from pabal.clock import Clock
from pabal.config import ApiSettings, TenantSettings
from pabal.dlq.desk import DeadLetters
from pabal.dlq.host import RedriveHost
from pabal.ledger.port import Ledger
from pabal.notification import CLASSES, EVENTS_TOPIC, NotificationClass, deliveries_topic
from pabal.plan import Rules
from pabal.policy import ClassSettings
from pabal.providers.port import TakesReceipts
from pabal.rendering import Renders
from pabal.store.port import Store
from pabal.suppressions import SuppressionList
from pabal.template import Template
from pabal.tracing.port import Tracing


def create_app(
    *,
    settings: ApiSettings,
    producer: Producer,
    admin: Admin,
    channels: Mapping[str, Channel],
    classes: Mapping[NotificationClass, ClassSettings],
    templates: Mapping[str, Template],
    clock: Clock,
    new_key: Callable[[], str],
    reader: Reader,
    store: Store | None,
    open_ledger: Callable[[], Awaitable[Ledger]],
    receivers: Mapping[str, TakesReceipts],
    tenants: Mapping[str, TenantSettings],
    tracing: Tracing | None = None,
    redrives: RedriveHost | None = None,
    apart: Renders | None = None,
    ailments: Callable[[], Sequence[str]] = tuple,
) -> ASGIApp:
    """The API as an ASGI application; it owns nothing that it is handed.

    `channels` are those that this installation has switched on. `producer` must give up within
    `settings.append_timeout_seconds`. `templates` must be published (`templates.publish_templates`) before the
    first request. `new_key` makes idempotency keys; they must not repeat.

    `store` is what look-ups are answered from (None: they say that there is none). `open_ledger` is called when
    something is first taken back, or reported to have arrived. `receivers` are the providers that take receipts, by
    name.

    `redrives` runs redrives and knows the dead letters; whoever made it lets it follow the log, and closes it (None:
    they end with this process, and no letter can be given another provider).

    `apart` renders templates that are too large for an event loop (None: they are refused).

    `ailments` says what `/healthz` is to know of the process (`Broker.ailments`).

    Raises ConfigError for keys that cannot be told apart.
    """
    keyring = Keyring(settings.keys)
    acceptance = Acceptance(
        rules=Rules(
            channels=channels,
            templates=templates,
            times_to_live={name: class_.time_to_live for name, class_ in classes.items()},
        ),
        producer=producer,
        append_timeout_seconds=settings.append_timeout_seconds,
        quotas=Quotas(tenants),
        clock=clock,
        apart=apart,
    )
    topics = [deliveries_topic(channel, class_) for channel in sorted(channels) for class_ in CLASSES]
    projection = Projection(store, admin=admin, topics=[*topics, EVENTS_TOPIC], clock=clock)
    ledger = LedgerAtNeed(open_ledger)
    lookups = Lookups(keyring=keyring, projection=projection, channels=channels)
    cancelling = Cancelling(
        keyring=keyring,
        projection=projection,
        lookups=lookups,
        acceptance=acceptance,
        ledger=ledger,
        clock=clock,
    )
    suppressing = Suppressing(
        keyring=keyring,
        suppressions=SuppressionList(reader=reader, clock=clock),
        acceptance=acceptance,
        channels=channels,
        clock=clock,
    )
    redrives = redrives or RedriveHost(
        DeadLetters(
            reader=reader,
            admin=admin,
            producer=producer,
            channels=channels,
            providers={},
            clock=clock,
            store=store,
        )
    )
    receipts = TakingReceipts(receivers=receivers, acceptance=acceptance, ledger=ledger, store=store, clock=clock)
    accepting = _accepting_routes(keyring=keyring, acceptance=acceptance, new_key=new_key, tracing=tracing)
    routes = [
        *accepting,
        *_delivery_routes(lookups, cancelling),
        _route("POST", "/v1/receipts/{provider}", receipts.take),
        Route("/v1/suppressions", Endpoint(suppressing.collection), methods=["GET", "POST"]),
        _route("DELETE", "/v1/suppressions/{channel}/{address:path}", suppressing.lift),
        *_dead_letter_routes(DeadLetterOperations(keyring=keyring, desk=redrives.desk)),
        *_redrive_routes(RedriveOperations(keyring=keyring, host=redrives)),
        Route("/healthz", HealthEndpoint(ailments), methods=["GET"]),
        Route("/readyz", ReadinessEndpoint(admin=admin, topics=topics, clock=clock), methods=["GET"]),
        *_document_routes(channels),
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _no_endpoint, Exception: _defect})
    app.router.redirect_slashes = False
    return _AskedAllDay(accepting[0], others=app)


class _AskedAllDay:
    """The one endpoint that is asked all day, before all others: a router and the boundaries around it would take an
    eighth of an accept's CPU. It answers its own defects."""

    def __init__(self, route: Route, *, others: ASGIApp) -> None:
        self._path = route.path
        self._endpoint = route.app
        self._others = others

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_it = scope["type"] == "http" and scope["path"] == self._path and scope["method"] == "POST"
        await (self._endpoint if is_it else self._others)(scope, receive, send)


def _accepting_routes(
    *, keyring: Keyring, acceptance: Acceptance, new_key: Callable[[], str], tracing: Tracing | None
) -> list[Route]:
    endpoints: Mapping[str, ASGIApp] = {
        "/v1/notifications": NotificationsEndpoint(keyring=keyring, acceptance=acceptance, new_key=new_key),
        "/v1/notifications/batch": BatchEndpoint(keyring=keyring, acceptance=acceptance, new_key=new_key),
    }
    return [
        Route(path, traced(endpoint, route=path, tracing=tracing), methods=["POST"])
        for path, endpoint in endpoints.items()
    ]


def _delivery_routes(lookups: Lookups, cancelling: Cancelling) -> list[Route]:
    return [
        _route("GET", "/v1/notifications/{id:uuid}", lookups.notification),
        _route("POST", "/v1/notifications/{id:uuid}/cancel", cancelling.notification),
        _route("GET", "/v1/deliveries", lookups.deliveries),
        _route("GET", "/v1/deliveries/{id:uuid}", lookups.delivery),
        _route("POST", "/v1/deliveries/{id:uuid}/cancel", cancelling.delivery),
    ]


def _dead_letter_routes(operations: DeadLetterOperations) -> list[Route]:
    letter = "/v1/dead-letters/{channel}/{partition}/{offset}"
    return [
        _route("GET", "/v1/dead-letters", operations.letters),
        _route("GET", "/v1/dead-letters/stats", operations.counts),
        _route("POST", "/v1/dead-letters/discard", operations.discard_all),
        _route("GET", letter, operations.show),
        _route("POST", f"{letter}/edit", operations.edit),
        _route("POST", f"{letter}/discard", operations.discard),
    ]


def _redrive_routes(operations: RedriveOperations) -> list[Route]:
    return [
        _route("POST", "/v1/redrives/plan", operations.plan),
        Route("/v1/redrives", Endpoint(operations.redrives), methods=["GET", "POST"]),
        _route("GET", "/v1/redrives/{plan}", operations.show_redrive),
        _route("POST", "/v1/redrives/{plan}/cancel", operations.cancel_redrive),
    ]


def _document_routes(channels: Collection[str]) -> list[Route]:
    description = describe_api(channels=channels)
    return [
        Route("/", FrontEndpoint(), methods=["GET"]),
        Route("/openapi.json", _Document(encode_json(description), "application/json"), methods=["GET"]),
        Route("/docs", _Document(render_page(description).encode(), "text/html; charset=utf-8"), methods=["GET"]),
    ]


def _route(method: str, path: str, respond: Callable[[Call], Awaitable[Answer]]) -> Route:
    return Route(path, Endpoint(respond), methods=[method])


class _Document:
    """Bytes that are the same for everyone, as a plain ASGI application."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self._response = Response(content, media_type=media_type, headers=HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._response(scope, receive, send)


async def _no_endpoint(request: Request, error: Exception) -> Response:
    """Starlette's own refusals as problem documents: no such path, no such method."""
    assert isinstance(error, HTTPException)
    # Not `request.url`: making one of a hostile Host header raises.
    path = request.scope["path"]
    if error.status_code == 405:
        return _problem(Refused("method_not_allowed", f"{path} does not take {request.method}"), headers=error.headers)
    return _problem(Refused("not_found", f"there is nothing at {path}"))


async def _defect(request: Request, error: Exception) -> Response:
    """The outermost boundary; Starlette raises the error again afterwards, and the server logs it."""
    del request, error
    return _problem(defect())


def _problem(refused: Refused, *, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        encode_json(refused.problem()),
        status_code=refused.status,
        headers=headers,
        media_type="application/problem+json",
    )
