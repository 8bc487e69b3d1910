"""The parts of Pabal whose packages are installed only when asked for: `pip install 'pabal[NAME]'`.

The base installation runs every role on SQLite files and on Kafka. An extra brings one client library more;
`pabal[all]` brings every extra. `pyproject.toml` says which packages each extra has.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final, Literal

from pabal.errors import ConfigError

Extra = Literal["inbox", "postgres", "tracing"]

_MODULES: Final[Mapping[Extra, Mapping[str, str]]] = {
    "inbox": {"aiosmtpd": "aiosmtpd"},
    "postgres": {"psycopg": "psycopg"},
    "tracing": {
        "opentelemetry.exporter.otlp.proto.http": "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry.sdk": "opentelemetry-sdk",
    },
}
"""What is imported of each extra, and the package that it comes from."""


def require_extra(extra: Extra, *, wanted_by: str) -> None:
    """Raise ConfigError with the command to run, unless the extra's packages are installed. Imports none of them.

    `wanted_by`: what cannot work without the extra; the error begins with it.
    """
    missing = [package for module, package in _MODULES[extra].items() if not _is_installed(module)]
    if missing:
        raise ConfigError(
            f"{wanted_by} needs {' and '.join(missing)} (not installed); run: pip install 'pabal[{extra}]'"
        )


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a package that the module would be in
        return False
