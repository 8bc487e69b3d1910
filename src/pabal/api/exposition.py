"""`GET /metrics`: what this process counted, for Prometheus. No key is asked for: no figure names a tenant."""

from collections.abc import Sequence
from typing import Any

from pabal.api.asgi import ApiResponse
from pabal.api.operation import Operation, Success
from pabal.api.request import ApiRequest
from pabal.telemetry.meter import Meter
from pabal.telemetry.prometheus import expose


class Exposition:
    """Exposes a meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def operations(self) -> Sequence[Operation[Any, Any]]:
        """What the API takes."""
        text = {"type": "string"}
        media = {"text/plain": text, "application/openmetrics-text": text}
        expose_metrics: Operation[None, None] = Operation(
            method="GET",
            path="/metrics",
            scope=None,
            respond=self.metrics,
            answers={200: Success("Every metric that has a value.", others=media)},
            name="getMetrics",
            summary="Metrics of this process",
            about="In Prometheus' text format, or in OpenMetrics if `Accept` asks for it. docs/metrics.md lists them.",
        )
        return (expose_metrics,)

    async def metrics(self, request: ApiRequest[None, None]) -> ApiResponse:
        """The metrics, in the format that the caller prefers."""
        body, media_type = expose(self._meter.snapshot(), accept=request.head.get(b"accept", b"").decode("latin-1"))
        return ApiResponse(status=200, body=body, media_type=media_type.encode("latin-1"))
