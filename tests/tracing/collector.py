"""An OpenTelemetry collector as small as it gets: OTLP over HTTP, kept in memory."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Takes spans on 127.0.0.1. Names and attributes are read as they were sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.services: set[str] = set()
        self.url = ""

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls) -> AsyncIterator["Collector"]:
        collector = cls()
        app = web.Application()
        app.router.add_post("/v1/traces", collector._take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert runner.addresses
        collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield collector
        finally:
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        asked = ExportTraceServiceRequest.FromString(await request.read())
        for resource in asked.resource_spans:
            self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")


def attribute(span: Span, name: str) -> str:
    """The value of an attribute of a span; empty when it has none of that name."""
    values = {each.key: each.value for each in span.attributes}
    value = values.get(name)
    return "" if value is None else str(value.int_value if value.HasField("int_value") else value.string_value)
