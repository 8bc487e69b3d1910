"""The public contract suites: what a log, a channel or a provider must do, as test classes to subclass."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pabal.testing.broker import BrokerContract
    from pabal.testing.channels import ChannelContract
    from pabal.testing.providers import FarSide, ProviderContract

__all__ = [
    "BrokerContract",
    "ChannelContract",
    "FarSide",
    "ProviderContract",
]

# Asserts in these modules are the tests'; pytest explains a failed one only if it rewrote the module.
pytest.register_assert_rewrite(
    "pabal.testing._broker_crash",
    "pabal.testing._broker_groups",
    "pabal.testing._broker_lab",
    "pabal.testing._broker_looking",
    "pabal.testing._broker_model",
    "pabal.testing._broker_records",
    "pabal.testing._broker_topics",
    "pabal.testing.channels",
    "pabal.testing.providers",
)

_HOMES = {
    "BrokerContract": "pabal.testing.broker",
    "ChannelContract": "pabal.testing.channels",
    "FarSide": "pabal.testing.providers",
    "ProviderContract": "pabal.testing.providers",
}


def __getattr__(name: str) -> Any:
    # Loaded when asked for: a provider's author needs neither the log's suite nor its markers and Hypothesis.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
