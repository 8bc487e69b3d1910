"""The api role: accepts notifications over HTTP and answers only once they stand in the log.

The way of one request (`notifications.py`; a batch takes it item by item, `batch.py`):

    head     whose key is it, which idempotency key, is it JSON              keys.py, asgi.py
    body     read up to a limit, within a time                               asgi.py
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

**Refusals are values until the edge.** The planner returns flaws, all of them; `Refused` carries a problem to the one
place in each endpoint that sends it. What a caller can do wrong is a table (`problems.KINDS`), which the manual, the
page and the OpenAPI document are checked against or made from. An exception that nobody foresaw is our defect: it is
logged, answered as a problem, and tells the caller the key.

**Bounded work.** Every request is bounded before it costs anything: bytes of the body (while it is read, whatever its
head says), recipients, levels of nesting, bytes of one record and of all. A batch yields to other requests between its
items. What unauthenticated callers can ask for is either constant or remembered for a second (`health.py`).

**Cost.** An accept is counted in microseconds, so the two endpoints are plain ASGI applications: no request or response
objects, no middleware, one pass of a typed decoder and one of an encoder.
"""

from pabal.api.app import create_app

__all__ = ["create_app"]
