"""The store of an installation."""

from pathlib import Path

from pabal.clock import SystemClock
from pabal.config import Settings
from pabal.errors import ConfigError
from pabal.store.port import Store
from pabal.store.sql import SqlStore, store_url


def open_store(settings: Settings, data: Path) -> Store:
    """The store that the settings name, by default a file in the data folder. Its first call opens it.

    Raises ConfigError.
    """
    return SqlStore(store_url(settings.store.url, data=data), clock=SystemClock())


def open_existing_store(settings: Settings, data: Path) -> SqlStore:
    """The store, for commands that only read it. Raises ConfigError when its file is missing.

    Otherwise a command in the wrong folder would make an empty store, and say that nothing is wrong.
    """
    url = store_url(settings.store.url, data=data)
    if url.startswith("sqlite:") and not (path := Path(url.removeprefix("sqlite:"))).exists():
        raise ConfigError(f"there is no store at {path}; give --data, or [store] url with --config")
    return SqlStore(url, clock=SystemClock())
