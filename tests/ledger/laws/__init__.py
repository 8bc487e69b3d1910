"""The laws of the ledger, which every implementation passes: `contract.py` has them all as one test class."""

import pytest

# Asserts in these modules are the tests'; pytest explains a failed one only if it rewrote the module.
pytest.register_assert_rewrite("tests.ledger.laws.answers", "tests.ledger.laws.lab", "tests.ledger.laws.owners")
