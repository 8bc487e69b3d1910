"""The laws of the store, which every implementation passes: `contract.py` has them all as one test class."""

import pytest

# Asserts in these modules are the tests'; pytest explains a failed one only if it rewrote the module.
pytest.register_assert_rewrite("tests.store.laws.answers", "tests.store.laws.folding", "tests.store.laws.lab")
