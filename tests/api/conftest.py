import pytest

from tests.api.lab import Lab


@pytest.fixture
def lab() -> Lab:
    return Lab()
