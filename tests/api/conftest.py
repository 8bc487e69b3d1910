from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.lab import Lab
from tests.api.world import World


@pytest.fixture
def lab() -> Lab:
    return Lab()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World.opened(tmp_path) as world:
        yield world
