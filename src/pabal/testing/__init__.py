"""The public contract suites: what an adapter or a provider must do, as test classes to subclass."""

import pytest

# Asserts in these modules are the tests'; pytest explains a failed one only if it rewrote the module.
pytest.register_assert_rewrite(
    "pabal.testing._broker_crash",
    "pabal.testing._broker_groups",
    "pabal.testing._broker_lab",
    "pabal.testing._broker_model",
    "pabal.testing._broker_records",
    "pabal.testing._broker_topics",
    "pabal.testing.providers",
)

from pabal.testing.broker import BrokerContract  # noqa: E402
from pabal.testing.providers import FarSide, ProviderContract  # noqa: E402

__all__ = ["BrokerContract", "FarSide", "ProviderContract"]
