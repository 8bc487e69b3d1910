"""One run of one scenario: the fault, the wait until everything is accounted for, the judgement."""

import asyncio
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import msgspec
from bench.lab import BenchFailed
from servers.kafka import KafkaMissing, KafkaStartFailed
from servers.postgres import PostgresMissing, PostgresStartFailed

from chaos.account import (
    Account,
    Allowed,
    Log,
    Row,
    Told,
    broken_promises,
    is_accounted_for,
    take_account,
    true_statuses,
)
from chaos.failed import RunFailed
from chaos.installation import Installation, Receiver, Setting
from chaos.load import Load, UnexpectedAnswer
from chaos.witness import Witness, recorded_statuses
from pabal.clock import SystemClock
from pabal.compose.parts import open_broker
from pabal.config import Settings
from pabal.errors import LogError, PabalError

_COMPLETE_WITHIN_SECONDS = 120.0
_TOLD_WITHIN_SECONDS = 30.0
_LOOK_EVERY_SECONDS = 1.0
_SETTLE_SECONDS = 2.0
_AFTER_EVERY_EXPIRY = timedelta(days=30)


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much is done. `steps_killed_at`: how often a worker comes to a step before it is killed there."""

    burst: int = 2000
    kill_at: int = 600
    steps_killed_at: int = 150
    rate: float = 150.0
    storm_seconds: float = 60.0
    outage_seconds: float = 20.0
    provider_outage_seconds: float = 60.0
    watched_rate: float = 200.0
    watched_seconds: float = 600.0
    is_quick: bool = False


QUICK = Size(
    burst=300,
    kill_at=80,
    steps_killed_at=30,
    rate=60.0,
    storm_seconds=8.0,
    outage_seconds=6.0,
    provider_outage_seconds=12.0,
    watched_seconds=60.0,
    is_quick=True,
)
"""For developing and for CI: checks that nothing is lost; its times are not published."""


class Run:
    """What a scenario has in its hands."""

    def __init__(self, pabal: Installation, *, log: Log, size: Size) -> None:
        self.pabal = pabal
        self.log = log
        self.size = size
        self.load = Load(port=pabal.port, api_key=pabal.api_key)
        self.problems: list[str] = []
        """What a scenario found wrong beyond the account."""
        self.notes: list[str] = []
        """What it found worth telling."""
        self.fault_over_ns = 0

    @property
    def far_side(self) -> Receiver:
        """Who is called."""
        return self.pabal.far_side

    def webhook(self, number: int) -> dict[str, str]:
        """Whom request `number` is for: a URL for all."""
        del number
        return {"channel": "webhook", "address": self.far_side.hook}

    def mail(self, number: int) -> dict[str, str]:
        """Whom request `number` is for: a person each, so that no two wait for each other."""
        return {"channel": "email", "address": f"user{number}@example.com"}

    def fault_over(self) -> None:
        """From here on recovery is measured."""
        self.fault_over_ns = time.time_ns()

    async def told(self) -> Mapping[str, Told]:
        """What the log tells by now."""
        broker = await open_broker(self.pabal.log_url, settings=Settings(), clock=SystemClock())
        try:
            witness = Witness(broker)
            await witness.look()
            return witness.told
        finally:
            await broker.close()

    async def until_arrived(self, count: int, *, within_seconds: float = 60.0) -> None:
        """Wait until the far side has that many different deliveries."""
        await self.pabal.until(
            lambda: self.far_side.distinct() >= count, f"{count} deliveries to arrive", within_seconds=within_seconds
        )

    async def while_loaded(self, seconds: float) -> None:
        """Let time pass, with an eye on the roles that should be running."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.pabal.check()
            await asyncio.sleep(0.1)

    @asynccontextmanager
    async def steady_load(self) -> AsyncIterator[None]:
        """Callers at the size's rate as long as this lasts; afterwards each has been answered 202."""
        self.load.steady(self.size.rate, to=self.webhook)
        yield
        await asyncio.wait_for(self.load.finish(), _COMPLETE_WITHIN_SECONDS)


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """A failure. `do` brings it about and returns what it may cost; `logs` are those it applies to."""

    name: str
    title: str
    do: Callable[[Run], Awaitable[Allowed]]
    logs: tuple[Log, ...] = ("embedded", "kafka")
    setting: Setting = Setting()
    complete_within_seconds: float = _COMPLETE_WITHIN_SECONDS


async def conduct(scenario: Scenario, *, log: Log, size: Size, keep: bool = False) -> Row:
    """Run a scenario on a log. Whatever goes wrong stands in the row's problems."""
    directory = Path(tempfile.mkdtemp(prefix=f"pabal-chaos-{scenario.name}-"))
    row = Row(failure=scenario.title, log=log, quick=size.is_quick)
    try:
        async with Installation.opened(directory, scenario.setting, log=log) as pabal:
            run = Run(pabal, log=log, size=size)
            try:
                return await _carry_out(scenario, run, row)
            except _FAILURES as error:
                run.load.stop()
                return _with_words(row, run, [f"{type(error).__name__}: {error}"])
    except (RunFailed, BenchFailed, KafkaMissing, KafkaStartFailed, PostgresMissing, PostgresStartFailed) as error:
        return msgspec.structs.replace(row, problems=(f"it could not be run: {error}",))
    finally:
        if keep:
            sys.stderr.write(f"{scenario.name}: logs and data are in {directory}\n")
        else:
            shutil.rmtree(directory, ignore_errors=True)


_FAILURES = (RunFailed, UnexpectedAnswer, PabalError, ExceptionGroup, TimeoutError, subprocess.TimeoutExpired)
"""What a run may end with before its account: a defect that was found, or a machine too slow."""


async def _carry_out(scenario: Scenario, run: Run, row: Row) -> Row:
    """The fault, the wait until everything is accounted for, the judgement."""
    allowed = await scenario.do(run)
    await asyncio.wait_for(run.load.answered(), scenario.complete_within_seconds)
    broker = await open_broker(run.pabal.log_url, settings=Settings(), clock=SystemClock())
    try:
        witness = Witness(broker)
        await _until_accounted_for(run, witness, within_seconds=scenario.complete_within_seconds)
        await _look_into_store(run, told=witness.told)
        # What is still under way somewhere could arrive once more.
        await run.while_loaded(_SETTLE_SECONDS)
        await witness.look()
    finally:
        await broker.close()
    account = _take(run, witness)
    _explain_missing(run, witness)
    if parked := sum("parked" in each.kinds for each in witness.told.values()):
        run.notes.append(f"{parked} deliveries were parked meanwhile")
    return _with_words(_with_counts(row, account, allowed=allowed), run, broken_promises(account, allowed))


def _with_words(row: Row, run: Run, problems: Sequence[str]) -> Row:
    if run.load.unhinted:
        run.problems.append(f"{run.load.unhinted} answers 503 without Retry-After")
    return msgspec.structs.replace(row, problems=(*run.problems, *problems), notes=tuple(run.notes))


def _with_counts(row: Row, account: Account, *, allowed: Allowed) -> Row:
    return msgspec.structs.replace(
        row,
        accepted=account.accepted,
        sent=account.sent,
        lost=account.lost,
        duplicated=account.duplicated,
        uncertain=account.uncertain,
        dead=account.dead,
        recovered_after_seconds=account.recovered_after_seconds,
        duplicates_allowed=allowed.duplicates,
    )


async def _until_accounted_for(run: Run, witness: Witness, *, within_seconds: float) -> None:
    """Wait until every accepted delivery has arrived or is explained, and is told of; or until that is too late."""
    deadline = time.monotonic() + within_seconds
    while True:
        run.pabal.check()
        await _look(witness, until=deadline)
        account = _take(run, witness)
        if account.lost == 0:
            # The events follow the calls; they are given the time of a takeover.
            deadline = min(deadline, time.monotonic() + _TOLD_WITHIN_SECONDS)
        if (account.lost == 0 and account.untold == 0) or time.monotonic() > deadline:
            return
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def _look_into_store(run: Run, *, told: Mapping[str, Told]) -> None:
    """Wait until the store tells the truth about every delivery; what it does not is a problem."""
    arrived = run.far_side.arrived()
    true = {each: true_statuses(each, arrived=arrived, told=told) for each in run.load.accepted}
    deadline = time.monotonic() + _TOLD_WITHIN_SECONDS
    async with run.pabal.store() as store:
        while True:
            said = await recorded_statuses(store)
            wrong = [each for each, statuses in true.items() if said.get(each) not in statuses]
            if not wrong or time.monotonic() > deadline:
                break
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
        unaccounted = await store.unaccounted(now=SystemClock().now() + _AFTER_EVERY_EXPIRY, limit=3)
    if wrong:
        examples = ", ".join(f"{each}: {said.get(each)}, not {'/'.join(true[each])}" for each in wrong[:3])
        run.problems.append(f"the store is wrong about {len(wrong)} deliveries, such as {examples}")
    if unaccounted:
        run.problems.append(f"unaccounted, says the store: {', '.join(str(each.id) for each in unaccounted)}, …")


async def _look(witness: Witness, *, until: float) -> None:
    while True:
        try:
            await witness.look()
        except LogError:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
        else:
            return


def _take(run: Run, witness: Witness) -> Account:
    return take_account(
        run.load.accepted,
        arrived=run.far_side.arrived(),
        told=witness.told,
        unreadable=witness.unreadable,
        fault_over_ns=run.fault_over_ns,
    )


def _explain_missing(run: Run, witness: Witness) -> None:
    """Name the first few that are lost, with what is told of them: where a search begins."""
    arrived = run.far_side.arrived()
    lost = [each for each in run.load.accepted if not is_accounted_for(each, arrived=arrived, told=witness.told)]
    for delivery in lost[:3]:
        told = witness.told.get(delivery)
        run.problems.append(f"lost {delivery}: {sorted(told.kinds) if told else 'no event'}")
