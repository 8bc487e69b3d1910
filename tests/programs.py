"""Programs of other makers that tests run: skipped where a developer lacks one, a failure in CI."""

import os
import shutil

import pytest


def needs_program(name: str, *, package: str) -> str:
    """The path of a program. Skips the test that asks when it is missing; in CI the test fails."""
    found = shutil.which(name)
    if found is not None:
        return found
    missing = f"no {name} to test with: install the Debian package {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)
