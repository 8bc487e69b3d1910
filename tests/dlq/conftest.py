from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dlq.lab import Lab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with Lab.open(tmp_path) as opened:
        yield opened
