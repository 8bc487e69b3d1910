"""The api role: accepts notifications over HTTP and answers only once they stand in the log.

**An operation is declared once** (`operation.py`): its route, the scope that its key needs, its query and body, what it
answers, its error codes, and what the OpenAPI document says of it. Everything else is made from the declaration:

    routes.py      a path and a method lead to an operation
    endpoint.py    the key is checked, the coroutine runs, every failure becomes a problem: the only error boundary
    request.py     the query and the body, decoded by the declared models when the coroutine asks (query.py, bodies.py)
    openapi.py     the document; docs_page.py makes a page from it, documents.py serves both

The operations stand beside the coroutines that answer them: `notifications`, `batch`, `lookups`, `cancelling`,
`receipts`, `suppressing`, `dead_letters`, `redrives`, `health`, `documents`. `app.py` puts them together. Probes,
documents and receipts are operations like any other, with no scope: probes and documents tell nothing of a tenant, and
a receipt is signed by its provider. The inbox's pages are not the API's: they are an application of their own on a port
of their own (`pabal.inbox`), for development alone.

The way of one accept (a batch takes it item by item):

    head     whose key is it, which idempotency key, is it JSON              keys.py, notifications.py
    body     read up to a limit, within a time                               bodies.py
    decode   bytes → NotificationRequest, in one step                        decoding.py
    plan     → deliveries, or every flaw at once; pure                       pabal.plan
    encode   one record per delivery; scheduled ones go to the delay line    acceptance.py
    append   wait until every record is acknowledged                         acceptance.py
    answer   202 with ids; or a problem document                             messages.py, problems.py

**202 means durable.** There is no database on this path and no state in this process: what was not acknowledged was
not accepted, and any number of api processes may run side by side.

**503 means unknown.** An append that was not acknowledged in time may have been written in part. Nothing is undone,
because nothing has to be: all ids derive from tenant and idempotency key, so the same request with the same key names
the same deliveries, and the worker's ledger knows what it has sent. That is why a caller without a key is given one
and why it stands in errors too. The order of deadlines keeps it true: the log's comes before the request's.

**Flaws are values until the edge.** The planner returns all flaws of a request; `RequestRefused` carries a problem to
the boundary. What a caller can do wrong is a table (`codes.KINDS`): the manual is checked against it, the page and the
OpenAPI document are made from it. An exception that no operation foresees is our defect: the boundary logs it, and the
answer tells the caller the idempotency key.

**Bounded work.** Every request is bounded before it costs anything: bytes of the body (while it is read, whatever its
head says), recipients, levels of nesting, bytes of one record and of all. A batch yields to other requests between its
items. What callers without a key can ask for is either constant or remembered for a second (`health.py`).

**Cost.** An accept is counted in microseconds: a path without parts is found in one look, there is no middleware, and
one pass of a typed decoder and of an encoder does the rest.
"""

from pabal.api.app import create_app

__all__ = ["create_app"]
