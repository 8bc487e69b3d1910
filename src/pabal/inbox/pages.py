"""The inbox over HTTP: a page for people, the same as JSON, and the hook."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import jinja2
import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from pabal.inbox.mailbag import CaughtEmail, Entry, Mailbag
from pabal.inbox.reading import html_of, summarise, view
from pabal.loopback import is_loopback

MAX_HOOK_OCTETS = 1024 * 1024
_SHOWN = 100  # lines on the page; reading a message takes about a millisecond

_HERE = Path(__file__).parent
_COMMON_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}
_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; frame-src 'self'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# An e-mail's HTML: no script, no forms, nothing loaded from elsewhere; its links open in a window of their own.
_EMAIL_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline';"
    " img-src data:; font-src data:; frame-ancestors 'self'"
)
_DOCTYPE = re.compile(r"\s*<!doctype[^>]*>", re.IGNORECASE)
_encode = msgspec.json.Encoder().encode


class Receiver(Protocol):
    """Keeps what is posted to the hook."""

    @property
    def smtp_address(self) -> tuple[str, int] | None:
        """Where e-mail is taken, once that is so."""
        ...

    def take_hook(self, path: str, *, headers: Sequence[tuple[str, str]], body: bytes) -> int:
        """Keep it and say under which number."""
        ...


class Pages:
    """The endpoints. Reading is done in threads, so that an open page never holds up the caller's event loop."""

    def __init__(self, receiver: Receiver, mailbag: Mailbag, *, first_command: str | None) -> None:
        self._receiver = receiver
        self._mailbag = mailbag
        self._first_command = first_command
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._static = {
            name: ((_HERE / "static" / name).read_bytes(), media_type)
            for name, media_type in (("inbox.css", "text/css"), ("inbox.js", "text/javascript"))
        }

    def app(self) -> Starlette:
        """The application; it serves under any mount point."""
        return Starlette(
            routes=[
                Route("/", self.show_list),
                Route("/entries", self.show_entries),
                Route("/messages", self.delete_all, methods=["DELETE"]),
                Route("/messages.json", self.list_as_json),
                Route("/messages/{id:int}.json", self.one_as_json),
                Route("/messages/{id:int}", self.show_one),
                Route("/messages/{id:int}/html", self.show_html),
                Route("/messages/{id:int}/raw", self.show_raw),
                Route("/hook", self.take_hook, methods=["POST"]),
                Route("/hook/{path:path}", self.take_hook, methods=["POST"]),
                Route("/static/{name}", self.show_static),
            ],
            exception_handlers={404: self.show_missing},
            middleware=[Middleware(_OnlyHere)],
        )

    async def show_list(self, request: Request) -> Response:
        """The page: what has arrived, the newest first."""
        return await self._page(request, "list.html", self._list_context(request))

    async def show_entries(self, request: Request) -> Response:
        """The list alone, which the page fetches anew while it is open; 304 when nothing has changed."""
        tag = f'"{self._mailbag.revision}"'
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers={"etag": tag})
        response = await self._page(request, "_entries.html", self._list_context(request))
        response.headers["etag"] = tag
        return response

    async def list_as_json(self, request: Request) -> Response:
        """Every line of the list."""
        del request
        entries = self._mailbag.newest_first()
        return await run_in_threadpool(lambda: _json({"messages": [summarise(entry) for entry in entries]}))

    async def show_one(self, request: Request) -> Response:
        """One arrival, whole."""
        entry = self._find(request)
        context = {"view": await run_in_threadpool(view, entry), "tab": request.query_params.get("tab", "")}
        return await self._page(request, "email.html" if isinstance(entry, CaughtEmail) else "webhook.html", context)

    async def one_as_json(self, request: Request) -> Response:
        """One arrival, whole, for programs."""
        entry = self._find(request)
        return await run_in_threadpool(lambda: _json(view(entry)))

    async def show_html(self, request: Request) -> Response:
        """An e-mail's HTML as its author wrote it, for the frame."""
        entry = self._find(request)
        html = await run_in_threadpool(html_of, entry) if isinstance(entry, CaughtEmail) else None
        if html is None:
            raise HTTPException(404)
        # In the frame itself a link could lead nowhere, so links open elsewhere.
        return HTMLResponse(_with_base(html), headers=_COMMON_HEADERS | {"content-security-policy": _EMAIL_POLICY})

    async def show_raw(self, request: Request) -> Response:
        """The octets that arrived, as text."""
        entry = self._find(request)
        return PlainTextResponse(entry.raw if isinstance(entry, CaughtEmail) else entry.body, headers=_COMMON_HEADERS)

    async def delete_all(self, request: Request) -> Response:
        """Empty the inbox."""
        del request
        self._mailbag.clear()
        return Response(status_code=204)

    async def take_hook(self, request: Request) -> Response:
        """Take a webhook, whatever it says."""
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_HOOK_OCTETS:
                raise HTTPException(413, f"the inbox takes at most {MAX_HOOK_OCTETS} octets")
        query = f"?{request.url.query}" if request.url.query else ""
        path = request.url.path.removeprefix(request.scope.get("root_path", "")) + query
        id_ = self._receiver.take_hook(path, headers=request.headers.items(), body=bytes(body))
        return _json({"id": id_})

    async def show_static(self, request: Request) -> Response:
        """The stylesheet and the script."""
        content, media_type = self._static.get(request.path_params["name"], (None, None))
        if content is None:
            raise HTTPException(404)
        return Response(content, media_type=media_type, headers=_COMMON_HEADERS | {"cache-control": "no-cache"})

    async def show_missing(self, request: Request, error: Exception) -> Response:
        """A page that is not, or not any more."""
        if request.url.path.endswith(".json"):
            return _json({"error": str(getattr(error, "detail", "Not Found"))}, status_code=404)
        response = await self._page(request, "missing.html", {})
        response.status_code = 404
        return response

    def _find(self, request: Request) -> Entry:
        entry = self._mailbag.get(request.path_params["id"])
        if entry is None:
            raise HTTPException(404, "there is no such message (any more)")
        return entry

    def _list_context(self, request: Request) -> Mapping[str, object]:
        entries = self._mailbag.newest_first()
        return {
            "entries": entries[:_SHOWN],
            "total": len(entries),
            "revision": self._mailbag.revision,
            "smtp": "{}:{}".format(*self._receiver.smtp_address) if self._receiver.smtp_address else None,
            "hook": request.url.replace(path=f"{request.scope.get('root_path', '')}/hook/anything", query=""),
            "first_command": self._first_command,
        }

    async def _page(self, request: Request, template: str, context: Mapping[str, object]) -> Response:
        own = {"base": request.scope.get("root_path", ""), "summarise": summarise}
        text = await run_in_threadpool(self._templates.get_template(template).render, **own, **context)
        return HTMLResponse(text, headers=_COMMON_HEADERS | {"content-security-policy": _PAGE_POLICY})


class _OnlyHere:
    """Lets requests to this machine pass (`pabal.loopback`). There is no login: no other machine may read it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, or answer 421 (RFC 9110 §15.5.20)."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) == 1 and is_loopback(hosts[0].decode("latin-1")):
            await self._app(scope, receive, send)
            return
        refusal = PlainTextResponse("The inbox answers to localhost and loopback addresses alone.\n", 421)
        await refusal(scope, receive, send)


def _with_base(html: str) -> str:
    """Make links open in a window of their own; after the document type, so that it keeps its meaning."""
    found = _DOCTYPE.match(html)
    head, rest = (html[: found.end()], html[found.end() :]) if found else ("", html)
    return f'{head}<base target="_blank">{rest}'


def _json(value: object, *, status_code: int = 200) -> Response:
    return Response(
        _encode(value), status_code=status_code, media_type="application/json", headers=dict(_COMMON_HEADERS)
    )
