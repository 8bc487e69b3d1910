"""How the store's tables became what they are: an Alembic environment, run by `pabal.store.database`."""

from typing import Final

VERSION_TABLE: Final = "store_version"
"""Holds the newest migration that was run."""
