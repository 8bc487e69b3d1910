"""HTTP for providers: a request goes out once, and the exchange says exactly what is known about what became of it.

::

    exchange   what is sent, and what came of it                                                    pure
    outcome    an exchange -> what became of the delivery, by a table of the provider's             pure
    client     connections, the guard, the line between "not sent" and "no answer"
    reading    the answer on its connection; alone knows httptools

A provider of an HTTP API is one file: it puts a delivery into a request, and says by a table what the API's answers
mean. `examples/pabal-channel-ntfy` has a whole one.
"""

from pabal.providers.http.client import HttpClient
from pabal.providers.http.exchange import (
    Exchange,
    Forbidden,
    HttpAnswer,
    HttpBody,
    Method,
    NotAUrl,
    Unanswered,
    Unsent,
    form_body,
    json_body,
)
from pabal.providers.http.outcome import AnswerNote, Meaning, outcome_of, readable

__all__ = [
    "AnswerNote",
    "Exchange",
    "Forbidden",
    "HttpAnswer",
    "HttpBody",
    "HttpClient",
    "Meaning",
    "Method",
    "NotAUrl",
    "Unanswered",
    "Unsent",
    "form_body",
    "json_body",
    "outcome_of",
    "readable",
]
