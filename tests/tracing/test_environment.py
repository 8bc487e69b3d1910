import subprocess
import sys

import pytest

from pabal.errors import ConfigError
from pabal.tracing.environment import read_exporters

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("environment", "exporters"),
    [
        ({}, ()),
        ({"OTEL_SERVICE_NAME": "notifications"}, ()),
        (ENDPOINT, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": "console"}, ("console",)),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, ("otlp", "console")),
        ({"OTEL_TRACES_EXPORTER": "none", **ENDPOINT}, ()),
        ({"OTEL_TRACES_EXPORTER": "", **ENDPOINT}, ("otlp",)),
        ({"OTEL_TRACES_EXPORTER": " "}, ()),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ()),
        ({"OTEL_SDK_DISABLED": "true", **ENDPOINT}, ()),
        ({"OTEL_SDK_DISABLED": "True", "OTEL_TRACES_EXPORTER": "otlp"}, ()),
        ({"OTEL_SDK_DISABLED": "false", **ENDPOINT}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf", **ENDPOINT}, ("otlp",)),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ()),
    ],
)
def test_spans_are_exported_only_where_the_environment_says(
    environment: dict[str, str], exporters: tuple[str, ...]
) -> None:
    assert read_exporters(environment) == exporters


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "zipkin"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", **ENDPOINT}, "grpc"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json", **ENDPOINT}, "http/json"),
    ],
)
def test_what_cannot_be_done_is_a_wrong_setting_and_named(environment: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read_exporters(environment)


def test_by_default_nothing_of_opentelemetry_is_imported() -> None:
    look = (
        "import sys, pabal.cli.main, pabal.compose.parts; from pabal.compose.parts import open_tracing;"
        "assert open_tracing({}, log_url='sqlite:x') is None;"
        "print([name for name in sys.modules if name.partition('.')[0] == 'opentelemetry'])"
    )

    printed = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=20, check=True)

    assert printed.stdout == "[]\n"
