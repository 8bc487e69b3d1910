"""How the laws of the log open the embedded one, and hasten what it does in time."""

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from pabal.broker.port import Broker
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import SystemClock
from pabal.testing._broker_lab import BrokerHarness


class AheadClock(SystemClock):
    """The system's clock, whose wall clock is set ahead; leases are not concerned."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead


class SqliteHooks(BrokerHarness):
    """The hooks."""

    session_seconds: ClassVar[float] = 0.6

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "log.db"
        self.clock = AheadClock()

    async def open(self) -> Broker:
        return await SqliteBroker.open(self.path, clock=self.clock, session_seconds=self.session_seconds)

    def process_command(self) -> Sequence[str]:
        script = Path(__file__).with_name("sqlite_process.py")
        return [sys.executable, str(script), str(self.path), str(self.session_seconds)]

    async def expire(self, broker: Broker, topic: str) -> None:
        assert isinstance(broker, SqliteBroker)
        self.clock.ahead += timedelta(hours=2)
        await broker.clean()

    async def compact(self, broker: Broker, topic: str) -> None:
        assert isinstance(broker, SqliteBroker)
        self.clock.ahead += timedelta(days=2)
        await broker.clean()
