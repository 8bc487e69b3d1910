"""The workers' ledger, as the API uses it: opened at the first need, so that an accept never waits for a ledger."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from pabal.api.problems import refuse_for_now
from pabal.errors import ConfigError
from pabal.ledger.port import Ledger

logger = logging.getLogger(__name__)


class LazyLedger:
    """Any number of requests may ask. The caller closes what its `open_ledger` opened."""

    def __init__(self, open_ledger: Callable[[], Awaitable[Ledger]]) -> None:
        self._open = open_ledger
        self._ledger: Ledger | None = None
        self._opening = asyncio.Lock()

    async def get(self) -> Ledger:
        """The ledger. Raises RequestRefused: ledger_unavailable, when this API is not configured with it."""
        async with self._opening:
            if self._ledger is None:
                try:
                    self._ledger = await self._open()
                except ConfigError as error:
                    logger.error("what needs the ledger cannot be done here: %s", error)
                    raise refuse_for_now(
                        "ledger_unavailable", "this API is not configured with the workers' ledger; its log says more"
                    ) from None
            return self._ledger
