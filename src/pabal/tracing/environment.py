"""Whether to trace, by OpenTelemetry's own variables. Pure, and without importing any of it."""

from collections.abc import Mapping
from typing import Final, Literal, get_args

from pabal.errors import ConfigError

Exporter = Literal["otlp", "console"]

_EXPORTERS: Final = get_args(Exporter)
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def read_exporters(environment: Mapping[str, str]) -> tuple[Exporter, ...]:
    """Where spans go: empty unless an exporter or an endpoint is named, and `OTEL_SDK_DISABLED` is not true.

    OpenTelemetry's own default (an OTLP exporter to localhost) is left out on purpose: a process that nobody told to
    trace must not. An empty value counts as none (OpenTelemetry, "Environment Variable Specification").

    Raises:
        ConfigError: an exporter or protocol that there is not here.
    """
    given = {name: value.strip() for name, value in environment.items() if name.startswith("OTEL_")}
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ()
    default = "otlp" if any(given.get(name) for name in _ENDPOINTS) else "none"
    names = [name.strip() for name in (given.get("OTEL_TRACES_EXPORTER") or default).split(",")]
    exporters: list[Exporter] = [name for name in _EXPORTERS if name in names]
    unknown = [name for name in names if name not in (*_EXPORTERS, "none")]
    if unknown:
        raise ConfigError(f"OTEL_TRACES_EXPORTER: there is no exporter {unknown[0]!r}; there are: otlp, console, none")
    if "otlp" in exporters:
        protocol = next((given[name] for name in _PROTOCOLS if given.get(name)), "http/protobuf")
        if protocol != "http/protobuf":
            raise ConfigError(f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol!r} is not spoken here; there is: http/protobuf")
    return tuple(exporters)
