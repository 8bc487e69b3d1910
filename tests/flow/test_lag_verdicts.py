"""What the monitor says of each way in which a group can stand still, on a whole installation and both logs."""

import signal
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from servers.kafka import KafkaCluster, missing

from pabal.broker.port import NewRecord
from pabal.clock import SystemClock
from pabal.compose.parts import Parts, open_parts
from pabal.config import Settings
from pabal.monitor.looking import Onlooker
from pabal.monitor.windows import GroupView
from pabal.simulator import HttpBehaviour, SmtpBehaviour
from tests.conftest import skip_without_kafka
from tests.flow.installation import Installation
from tests.flow.processes import Commands, kill
from tests.flow.test_guard import ask_mails, ask_webhooks
from tests.waiting import eventually, eventually_told

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

BEHIND: Final = 5_000
"""Deliveries that are done behind one call that hangs."""

NOTICED_SECONDS: Final = 30.0
"""Within so long the monitor names the fault; a busy machine is given three times as long."""

MAIL, WEBHOOK = "pabal.worker.email.critical", "pabal.worker.webhook.standard"


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A log of the test's own: what others leave behind would keep the groups busy."""
    if request.param == "sqlite":
        yield f"sqlite:{tmp_path / 'log.db'}"
        return
    if reason := missing():
        skip_without_kafka(reason)
    with KafkaCluster.start(tmp_path / "kafka") as cluster:
        yield f"kafka://{cluster.bootstrap}"


class Onlooking:
    """Reads what the monitor keeps in the log."""

    def __init__(self, parts: Parts) -> None:
        self._onlooker = Onlooker(
            reader=parts.broker.reader(),
            admin=parts.broker.admin(),
            clock=SystemClock(),
            look_back=timedelta(minutes=1),
        )

    async def groups(self) -> Mapping[str, GroupView]:
        """Every group, as the samples of the monitor show it."""
        watching = await self._onlooker.look()
        return {view.group: view for view in watching.windows.groups()}

    async def until(self, is_so: Callable[[Mapping[str, GroupView]], bool]) -> Mapping[str, GroupView]:
        """Wait until the groups stand like that; how they stand then."""

        async def seen() -> Mapping[str, GroupView] | None:
            groups = await self.groups()
            return groups if groups and is_so(groups) else None

        groups = await eventually_told(seen, within_seconds=3 * NOTICED_SECONDS)
        assert groups is not None
        return groups


async def test_workers_that_are_killed_or_frozen_are_a_stop_and_an_offset_set_back_is_a_rewind(
    tmp_path: Path, log_url: str
) -> None:
    async with Commands.ready(tmp_path, log_url=log_url) as commands:
        assert await commands.run("topics", "create", "--partitions", "2") == 0, commands.printed()
        assert await commands.run("ledger", "adopt", "--yes") == 0, commands.printed()
        await commands.start("api", "--port", str(commands.port))
        await commands.start("monitor")
        killed = await commands.start("worker", "--channel", "email")
        frozen = await commands.start("worker", "--channel", "webhook")
        await commands.until_ready()
        sent = await commands.ask_webhooks(100)
        await eventually(lambda: commands.arrived(sent) == len(sent), within_seconds=60)
        async with open_parts(Settings(), log_url=log_url, data=tmp_path) as parts:
            onlooking = Onlooking(parts)
            await onlooking.until(lambda groups: groups[WEBHOOK].members == 1 and not groups[WEBHOOK].lag)

            await kill(killed)
            frozen.send_signal(signal.SIGSTOP)
            await commands.ask_webhooks(100)
            await parts.broker.producer().append([a_mail()])
            groups = await onlooking.until(
                lambda groups: {groups[name].verdict for name in (MAIL, WEBHOOK)} == {"stop"}
            )

            assert "no member owns the partition" in groups[MAIL].reason
            assert groups[WEBHOOK].lag == 100
            assert await commands.run("status") == 1

            admin = parts.broker.admin()
            committed = await admin.committed(WEBHOOK)
            await admin.reset_offsets(WEBHOOK, {place: offset - 1 for place, offset in committed.items() if offset})
            await onlooking.until(lambda groups: groups[WEBHOOK].verdict == "rewind")
            frozen.send_signal(signal.SIGCONT)


def a_mail() -> NewRecord:
    """Bytes that wait for the workers of mail: nobody has looked at them yet."""
    return NewRecord(topic="pabal.deliveries.email.critical", key=b"mail", value=b"{}")


async def test_calls_that_all_hang_are_a_stall_one_alone_is_none_and_what_is_held_on_purpose_is_held(
    log_url: str,
) -> None:
    patient = {"webhook": {"allow": ["127.0.0.0/8"], "timeout_seconds": 60.0}}
    async with Installation.running(log_url, providers=patient, guard={"brake_records": 20}) as pabal:
        onlooking = Onlooking(pabal.parts)
        await pabal.simulator.behave(
            HttpBehaviour(path="/hangs", answer="hang"),
            SmtpBehaviour(answer="refuse"),
        )
        # Of class critical: one call hangs, and 5,000 behind it are done.
        await ask_webhooks(pabal, f"{pabal.simulator.url}/hangs/one", 1)
        to = [{"channel": "webhook", "address": f"{pabal.simulator.url}/hook"}]
        behind = {"to": to, "class": "critical", "content": {"body": "hello"}}
        for _ in range(BEHIND // 100):
            await pabal.call("POST", "/v1/notifications/batch", body={"notifications": [behind] * 100}, expect=202)
        # Of class standard: every call hangs.
        hanging = {"channel": "webhook", "address": f"{pabal.simulator.url}/hangs/all"}
        for _ in range(5):
            await pabal.ask({"to": [hanging], "class": "standard", "content": {"body": "hello"}})
        # Of class bulk: bytes that nothing can read; the brake holds it. Of mail: nobody answers; the guard holds it.
        topic = "pabal.deliveries.webhook.bulk"
        for number in range(200):
            await pabal.append(NewRecord(topic=topic, key=str(number).encode(), value=b"{}"))
        await ask_mails(pabal, 50)
        await eventually(lambda: pabal.simulator.counts().by_answer["http 200"] >= BEHIND, within_seconds=90)

        groups = await onlooking.until(
            lambda groups: (
                groups["pabal.worker.webhook.standard"].verdict == "stall"
                and groups["pabal.worker.webhook.bulk"].verdict == "held"
                and groups["pabal.worker.email.critical"].verdict == "held"
            )
        )

        assert "nothing was done for" in groups["pabal.worker.webhook.standard"].reason
        assert "brake" in groups["pabal.worker.webhook.bulk"].reason
        assert "guard" in groups["pabal.worker.email.critical"].reason
        # Longer than a stall takes to be one.
        one_hangs = await onlooking.until(lambda groups: groups["pabal.worker.webhook.critical"].age_seconds > 20)
        assert one_hangs["pabal.worker.webhook.critical"].lag > BEHIND // 4
        assert one_hangs["pabal.worker.webhook.critical"].verdict in ("ok", "warn")
        # The calls that hang are cut, so that the end need not wait for them.
        await pabal.simulator.behave(HttpBehaviour(answer="refuse"))
