"""A dead letter all the way back, with a real worker, on both logs; and a redrive that is killed."""

import asyncio
import json
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pabal.audit import AuditFact, read_audit
from pabal.broker.port import NewRecord, TopicPartition
from pabal.cli.letters import open_dead_letters
from pabal.clock import SystemClock
from pabal.codec import event_record
from pabal.compose.parts import open_broker
from pabal.config import Settings
from pabal.dlq.letters.selection import Selection
from pabal.dlq.parts import DeadLetters
from pabal.dlq.redrive.making import make_plan
from pabal.dlq.redrive.plan import Plan, Rules
from pabal.dlq.redrive.run import Redrive, Watcher, Who
from pabal.dlq.redrive.stepping import Pace
from pabal.notification import AUDIT_TOPIC, Delivery
from pabal.reports.reprocessing import report_reprocessing
from pabal.simulator import HttpBehaviour
from pabal.store.sql import SqlStore, store_url
from tests.dlq.lab import an_event
from tests.dlq.letters import a_dead_record, a_delivery
from tests.flow.installation import Installation, utc_now
from tests.flow.processes import Commands, free_port, kill
from tests.waiting import eventually, eventually_told

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "kafka":
        return f"kafka://{request.getfixturevalue('kafka_bootstrap')}"
    return f"sqlite:{tmp_path / 'log.db'}"


@pytest.fixture
async def pabal(log_url: str) -> AsyncIterator[Installation]:
    async with Installation.running(log_url, classes={"critical": {"ladder_seconds": [5]}}) as installation:
        yield installation


async def redrive(desk: DeadLetters, plan: Plan) -> str:
    who = Who(by="ana", host="here", reason="mended", token=plan.id)
    pace = Pace(canary=1, per_second=100.0, patience_seconds=20.0)
    ending = await Redrive(
        desk.letters,
        plan,
        tails=desk.tails,
        producer=desk.producer,
        clock=desk.clock,
        pace=pace,
        who=who,
        watcher=Watcher(),
    ).run(asyncio.Event())
    return ending.ended


async def test_what_was_exhausted_is_planned_redriven_sent_once_and_counted_by_the_report(pabal: Installation) -> None:
    since = utc_now()
    await pabal.simulator.behave(HttpBehaviour(status=503))
    asked = [await pabal.ask_webhook(f"/hook/{number}") for number in range(3)]
    ids = [delivery["id"] for delivery in asked]
    for delivery in ids:
        await pabal.until_told(delivery, "dead_lettered", within_seconds=30.0)
    await pabal.simulator.behave()
    before = dict(pabal.simulator.counts().by_key)

    parts = pabal.parts
    async with open_dead_letters(parts.broker, settings=parts.settings, clock=parts.clock) as desk:
        # By their ids as well: on a Kafka that is shared, other tests' deliveries are given up meanwhile.
        selection = Selection(error_classes=("exhausted",), since=since, deliveries=tuple(map(uuid.UUID, ids)))
        plan = await make_plan(
            desk.letters, selection, tails=desk.tails, clock=desk.clock, rules=Rules(), plan_id=f"p-{ids[0]}", by="ana"
        )
        ended = await redrive(desk, plan)
        again = await make_plan(
            desk.letters, selection, tails=desk.tails, clock=desk.clock, rules=Rules(), plan_id=f"q-{ids[0]}", by="ana"
        )

    assert (plan.counts, ended) == ({"redrive": 3}, "completed")
    assert again.counts == {"redriven": 3}
    for delivery in ids:
        events = await pabal.until_told(delivery, "sent")
        assert [event.kind for event in events][-3:] == ["dead_lettered", "redriven", "sent"]
        assert events[-1].attempt == 3
        assert pabal.simulator.counts().by_key[delivery] == before[delivery] + 1
    # A store of its own: that of the installation has the dead letters of other tests as well.
    own = parts.data / "own"
    own.mkdir()
    store = SqlStore(store_url(None, data=own), clock=parts.clock)
    await store.fold([event for delivery in ids for event in await pabal.events(delivery)])
    rows = await store.reprocessed(since=since, until=utc_now())
    await store.close()
    report = report_reprocessing(rows, since=since, until=utc_now(), as_of=utc_now() + timedelta(hours=25))
    assert (report.numerator, report.denominator, report.rate) == (3, 3, 1.0)


LETTERS = 120


@pytest.mark.slow
async def test_a_redrive_that_is_killed_in_the_middle_goes_on_and_every_letter_is_sent_exactly_once(
    tmp_path: Path,
) -> None:
    async with Installation.running(f"sqlite:{tmp_path / 'log.db'}") as pabal:
        deliveries = [live(pabal, number) for number in range(LETTERS)]
        for delivery in deliveries:
            await pabal.append(a_dead_record(delivery, at=utc_now()))
            await pabal.append(event_record(an_event(delivery, "dead_lettered", at=utc_now())))
        log = ("--log", f"sqlite:{tmp_path / 'log.db'}", "--data", str(tmp_path))
        plan = tmp_path / "plan.json"
        assert await run_pabal("dlq", "plan", *log, "--out", str(plan)) == 0

        arguments = ("dlq", "redrive", *log, str(plan), "--reason", "mended", "--rate", "100", "--json")
        first = await start_pabal(*arguments)
        await eventually(lambda: pabal.simulator.counts().received >= 20, within_seconds=20.0)
        first.send_signal(signal.SIGKILL)
        await first.wait()
        second = await start_pabal(*arguments)
        out, err = await second.communicate()

        assert second.returncode == 0, err
        assert json.loads(out)["ended"] == "completed"
        assert "ended without a word" in err.decode()
        counts = pabal.simulator.counts().by_key
        assert {delivery: counts.get(str(delivery.id), 0) for delivery in deliveries} == dict.fromkeys(deliveries, 1)


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("takes_over", ["the same one, started again", "another one that is alive"])
async def test_a_redrive_begun_over_http_goes_on_by_itself_when_its_api_process_is_killed(
    tmp_path: Path, log_url: str, takes_over: str
) -> None:
    async with Commands.ready(tmp_path, log_url=log_url) as commands:
        assert await commands.run("topics", "create", "--partitions", "2") == 0, commands.printed()
        assert await commands.run("ledger", "adopt", "--yes") == 0, commands.printed()
        await commands.start("worker", "--name", "one")
        running = await commands.start("api", "--port", str(commands.port))
        await commands.until_ready()
        other_port = free_port()
        if takes_over == "another one that is alive":
            await commands.start("api", "--port", str(other_port))
        deliveries = [msgspec.structs.replace(live(commands, n), id=uuid.uuid4()) for n in range(LETTERS)]
        await append(log_url, [a_dead_record(delivery, at=utc_now()) for delivery in deliveries])
        chosen = {"deliveries": [str(delivery.id) for delivery in deliveries]}
        plan = await commands.call("POST", "/v1/redrives/plan", body=chosen)
        request = {"plan": plan, "reason": "mended", "pace": {"per_second": 100.0}}
        await commands.call("POST", "/v1/redrives", body=request)
        await eventually(lambda: commands.simulator.counts().received >= 20, within_seconds=30.0)

        await kill(running)
        received = commands.simulator.counts().received
        if takes_over == "another one that is alive":
            commands.port = other_port
        else:
            await commands.start("api", "--port", str(commands.port))
        await commands.until_ready()
        view = await until_ended(commands, plan["id"])

        assert received < LETTERS
        assert (view["state"], view["by"], view["reason"]) == ("completed", "an API key of shop", "mended")
        # What was appended and sent, but not marked when the process was killed, is found to have been sent.
        ending = view["ending"]
        assert (view["runs"], ending["tally"]["sent"] + ending.get("resolved", 0)) == (2, LETTERS)
        counts = commands.simulator.counts().by_key
        assert {delivery.id: counts.get(str(delivery.id), 0) for delivery in deliveries} == {
            delivery.id: 1 for delivery in deliveries
        }
        facts = [fact for fact in await audited(log_url) if fact.subject == f"plan/{plan['id']}"]
        assert [fact.action.removeprefix("redrive.") for fact in facts] == ["requested", "started", "started", "ended"]


async def until_ended(commands: Commands, plan: str) -> dict[str, Any]:
    async def ended() -> dict[str, Any] | None:
        view = await commands.call("GET", f"/v1/redrives/{plan}")
        return None if view["state"] in ("running", "waiting") else dict(view)

    found = await eventually_told(ended, within_seconds=60.0)
    assert found is not None
    return found


async def append(log_url: str, records: Sequence[NewRecord]) -> None:
    broker = await open_broker(log_url, settings=Settings(), clock=SystemClock())
    producer = broker.producer()
    await producer.append(records)
    await producer.close()
    await broker.close()


async def audited(log_url: str) -> list[AuditFact]:
    broker = await open_broker(log_url, settings=Settings(), clock=SystemClock())
    batches = broker.reader().read(TopicPartition(AUDIT_TOPIC, 0))
    facts = [read_audit(record) async for batch in batches for record in batch]
    await broker.close()
    return facts


def live(pabal: Installation | Commands, number: int) -> Delivery:
    now = utc_now()
    return a_delivery(
        number,
        address=f"{pabal.simulator.url}/hook/{number}",
        accepted_at=now - timedelta(minutes=5),
        expires_at=now + timedelta(hours=1),
    )


async def start_pabal(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pabal", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def run_pabal(*arguments: str) -> int | None:
    process = await start_pabal(*arguments)
    await process.communicate()
    return process.returncode
