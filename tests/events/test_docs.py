"""docs/events.md and docs/tracing.md name everything there is."""

import re
import uuid
from pathlib import Path
from typing import get_args

import msgspec
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pabal.notification import EventKind, ReceiptKind
from pabal.outcome import Accepted
from pabal.tracing.opentelemetry import OpenTelemetryTracing
from tests.events.log import a_receipt, an_event, record_of
from tests.tracing.test_opentelemetry import ORIGIN, a_delivery

DOCS = Path(__file__).parents[2] / "docs"


def test_every_kind_and_no_other_is_explained() -> None:
    page = (DOCS / "events.md").read_text()

    deliveries, receipts = re.findall(r"\n\| `pabal\.\w+\.…` .*\n(?:\|.*\n)+", page)
    named = [
        set(re.findall(r"`([a-z_]+)`", re.sub(r"\|[^|]*\|$", "", table, flags=re.M)))
        for table in (deliveries, receipts)
    ]

    assert named == [set(get_args(EventKind)), set(get_args(ReceiptKind))]


def test_every_header_is_explained() -> None:
    page = (DOCS / "events.md").read_text()

    facts = (msgspec.structs.replace(an_event(), traceparent="00-…"), a_receipt(uuid.uuid4()))
    headers = {name for fact in facts for name, _ in record_of(fact).headers}

    assert {name for name in headers if f"`{name}`" not in page} == set()


def test_every_attribute_of_ours_is_named() -> None:
    exporter = InMemorySpanExporter()
    tracing = OpenTelemetryTracing([SimpleSpanProcessor(exporter)], log="kafka")

    tracing.send(a_delivery(), attempt=1, provider="hooks", origin=ORIGIN, group="g").end(Accepted())

    [span] = exporter.get_finished_spans()
    page = (DOCS / "tracing.md").read_text()
    ours = {name for name in span.attributes or {} if name.startswith("pabal.")}
    assert {name for name in ours if f"`{name}`" not in page} == set()
