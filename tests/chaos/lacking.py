"""What becomes of a test whose machine lacks what it needs."""

import os
from typing import NoReturn

import pytest


def skip_for_lack_of(what: str, reason: str) -> NoReturn:
    """Skip on a developer's machine, with the reason; fail in CI, where nothing may be skipped unseen."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"no {what} to test on: {reason}")
    pytest.skip(f"no {what} to test on: {reason}")
