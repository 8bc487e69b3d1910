"""A whole worker: how it begins, what it does when the guard refuses, how it ends."""

import asyncio
import logging
import zlib
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from pabal.broker.port import NewRecord, Position, TopicPartition
from pabal.broker.sqlite.consumer import SqliteConsumer
from pabal.codec import delivery_record, read_delivery
from pabal.errors import OwnerEnded
from pabal.ops.brakes import BrakeState, brake_record
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Unknown
from tests.waiting import eventually
from tests.worker.lab import WEBHOOK_TOPIC, Hanging, Provider, WorkerLab, a_delivery


async def test_what_was_sent_before_a_stop_is_told_and_committed_before_the_end(tmp_path: Path) -> None:
    """The telling outlasts the call: a drain that only waited for calls would leave it to the next start."""
    appending, go_on = asyncio.Event(), asyncio.Event()
    async with WorkerLab.open(tmp_path) as lab, lab.ledger() as ledger:
        worker = lab.worker(ledger, Provider())
        producer = worker._producer

        class Slow:
            async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
                appending.set()
                await go_on.wait()
                return await producer.append(records)

            async def close(self) -> None:
                await producer.close()

        for channel in worker.channels.values():
            channel._dispatch._teller._producer = Slow()
        await lab.append(a_delivery())
        stopping = asyncio.Event()
        running = asyncio.create_task(worker.run(stopping))
        await appending.wait()

        stopping.set()
        await asyncio.wait({running}, timeout=0.2)
        assert not running.done()
        go_on.set()
        await running

        assert [event.kind for event in await lab.events()] == ["sent"]
        committed = await lab.broker.admin().committed("pabal.worker.webhook.critical", [WEBHOOK_TOPIC])
        assert list(committed.values()) == [1]


async def test_a_worker_whose_place_another_has_taken_ends(tmp_path: Path) -> None:
    async with WorkerLab.open(tmp_path) as lab, lab.ledger("same") as ledger:
        running = asyncio.create_task(lab.worker(ledger, Provider()).run(asyncio.Event()))
        async with lab.ledger("same"):
            await lab.append(a_delivery())

            with pytest.raises(BaseExceptionGroup) as raised:
                await running

    assert raised.group_contains(OwnerEnded)


async def test_a_topic_that_does_not_exist_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    provider = Provider()
    async with WorkerLab.open(tmp_path, has_topics=False) as lab, lab.running(provider):
        await eventually(lambda: "does not exist" in caplog.text)

        await lab.create_topics()
        await lab.append(a_delivery())

        await lab.until_told("sent")


async def test_a_delivery_in_another_classes_topic_is_dead_lettered_and_not_called(tmp_path: Path) -> None:
    provider = Provider()
    async with WorkerLab.open(tmp_path) as lab, lab.running(provider):
        record = msgspec.structs.replace(delivery_record(a_delivery(class_="bulk")), topic=WEBHOOK_TOPIC)
        await lab.broker.producer().append([record])
        await lab.append(a_delivery(1))
        await lab.until_told("sent")

        [dead] = await lab.records("pabal.dead.webhook")

    assert dead.header("x-error-class") == b"misplaced"
    assert dead.value == record.value
    assert len(provider.sent) == 1


async def test_tenants_take_turns_however_many_one_has_waiting(tmp_path: Path) -> None:
    provider = Provider()
    async with WorkerLab.open(tmp_path) as lab:
        await lab.append(*(a_delivery(number, tenant="loud") for number in range(200)))
        await lab.append(a_delivery(0, tenant="quiet"))
        async with lab.running(provider, concurrency=2):
            await lab.until_told("sent", count=201)

    assert [tenant for tenant, _ in provider.sent].index("quiet") < 10


async def test_a_host_that_fails_is_not_called_until_its_circuit_reopens_and_another_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def does(to: str) -> Outcome:
        return Deferred(reason="450\r\n <ana@example.com> too busy") if "dead" in to else Accepted()

    provider = Provider(does)
    async with WorkerLab.open(tmp_path) as lab:
        await lab.append(*(a_delivery(number, address="https://dead/") for number in range(100)))
        await lab.append(*(a_delivery(number) for number in range(50)))
        async with lab.running(provider):
            await lab.until_told("sent", count=50)
            await lab.until_told("parked", count=70)
        parked = [event for event in await lab.events() if event.kind == "parked"]
        waiting = [read_delivery(record) for record in await lab.records("pabal.delay.critical.30")]
        assert await lab.records("pabal.dead.webhook") == []

    assert len([to for _, to in provider.sent if "dead" in to]) <= 30
    assert {(event.attempt, event.detail) for event in parked} == {(1, "not taken for now by a dead")}
    assert "circuit open: a dead is not called for 5 s: 450 <address> too busy\n" in caplog.text
    unchanged = [(each.attempt, each.rung, each.parks) for each in waiting if each.parks]
    assert set(unchanged) == {(1, 0, 1)}
    assert len(unchanged) == len(parked)


async def test_those_who_wait_for_one_url_hold_up_no_other_url_of_their_tenant(tmp_path: Path) -> None:
    """They stood in the tenant's line before it was known that the URL refuses."""

    async def does(to: str) -> Outcome:
        if "refuses" not in to:
            return Accepted()
        await asyncio.sleep(0.05)
        return Deferred(reason="503", retry_after_seconds=3600.0, address_only=True)

    async with WorkerLab.open(tmp_path) as lab:
        await lab.append(*(a_delivery(number, address="https://shared/refuses") for number in range(100)))
        await lab.append(*(a_delivery(number, address="https://shared/fine") for number in range(50)))
        async with lab.running(Provider(does), concurrency=4):
            await lab.until_told("sent", count=50)


async def test_how_many_wait_for_a_dead_host_ends_none_of_them_before_its_time(tmp_path: Path) -> None:
    """The last of them would be back after their expiry; the host may be back before."""

    async def does(to: str) -> Outcome:
        del to
        return Deferred(reason="503")

    async with WorkerLab.open(tmp_path) as lab:
        expires_at = datetime.now(UTC) + timedelta(seconds=20)
        await lab.append(*(a_delivery(number, expires_at=expires_at) for number in range(500)))
        async with lab.running(Provider(does)):
            told = await lab.until(lambda events: events, count=500)

    assert {event.kind for event in told} == {"deferred", "parked"}
    assert all(event.due < expires_at for event in told if event.due is not None)


async def test_a_host_that_is_well_is_served_its_whole_backlog_and_nothing_of_it_is_parked(tmp_path: Path) -> None:
    async def does(to: str) -> Outcome:
        del to
        await asyncio.sleep(0.2)
        return Accepted()

    async with WorkerLab.open(tmp_path) as lab:
        await lab.append(*(a_delivery(number) for number in range(240)))
        # Some three seconds of work: more than is waited for where others need the place.
        async with lab.running(Provider(does), concurrency=16):
            await lab.until_told("sent", count=240)

        assert {event.kind for event in await lab.events()} == {"sent"}


async def test_a_place_that_is_free_again_goes_to_the_next_in_line_at_once(tmp_path: Path) -> None:
    """Not only when time has passed: looks alone would take 20 seconds for these."""
    async with WorkerLab.open(tmp_path) as lab:
        await lab.append(*(a_delivery(number) for number in range(400)))
        async with lab.running(Provider(), concurrency=2):
            await lab.until_told("sent", count=400)


async def test_what_hangs_at_one_host_leaves_slots_for_another(tmp_path: Path) -> None:
    async with WorkerLab.open(tmp_path) as lab:
        await lab.append(*(a_delivery(number, address="https://hanging/") for number in range(200)))
        await lab.append(*(a_delivery(number) for number in range(50)))
        async with lab.running_until_cancelled(Hanging(), window=100):
            await lab.until_told("sent", count=50)


async def test_what_hangs_does_not_hold_up_what_stands_behind_it(tmp_path: Path) -> None:
    """Many windows of it: how much has ended behind a call that hangs is no reason to stop reading."""

    async with WorkerLab.open(tmp_path, has_topics=False) as lab:
        await lab.create_topics(partitions=2)
        await lab.append(*(a_delivery(number, address="https://hanging/") for number in range(8)))
        await lab.append(*(a_delivery(number) for number in range(300)))
        async with lab.running_until_cancelled(Hanging(timeout_seconds=60.0), window=40):
            await lab.until_told("sent", count=300)


async def test_a_line_for_a_host_that_hangs_keeps_no_partition_from_being_read(tmp_path: Path) -> None:
    """It fits into memory, so that there is no crowd; but all of it comes from one partition, which is held back."""
    async with WorkerLab.open(tmp_path, has_topics=False) as lab:
        await lab.create_topics(partitions=2)
        in_one = [each for each in map(a_delivery, range(1000)) if zlib.crc32(each.record_key) % 2 == 0]
        hanging = [msgspec.structs.replace(each, address="https://hanging/") for each in in_one[:60]]
        await lab.append(*hanging, *in_one[60:260])
        async with lab.running_until_cancelled(Hanging(timeout_seconds=60.0), window=100):
            await lab.until_told("sent", count=200)


async def test_when_every_provider_refuses_nothing_more_is_taken_from_the_log(tmp_path: Path) -> None:
    async def does(to: str) -> Outcome:
        del to
        return Misconfigured(reason="password refused")

    provider = Provider(does)
    async with WorkerLab.open(tmp_path) as lab, lab.ledger() as ledger:
        worker = lab.worker(ledger, provider)
        stopping = asyncio.Event()
        running = asyncio.create_task(worker.run(stopping))
        await lab.append(a_delivery())
        await eventually(lambda: any(intake.holds for intake in worker.channels["webhook"].intakes.values()))
        held = len(provider.sent)

        await lab.append(a_delivery(1))  # The poll that is under way brings it; no other follows.
        await eventually(lambda: sum(intake.in_flight for intake in worker.channels["webhook"].intakes.values()) == 1)
        await lab.append(*(a_delivery(number) for number in range(2, 200)))
        await asyncio.wait({running}, timeout=0.5)
        assert sum(intake.in_flight for intake in worker.channels["webhook"].intakes.values()) <= 2
        assert len(provider.sent) == held == 1
        assert await lab.records("pabal.dead.webhook") == []
        stopping.set()
        await running


async def test_a_channel_that_was_shut_with_nothing_in_memory_reads_what_finds_out_that_it_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def does(to: str) -> Outcome:
        return Misconfigured(reason="password refused") if "first" in to else Accepted()

    paused = asyncio.Event()
    pause = SqliteConsumer.pause

    async def note_pause(consumer: SqliteConsumer, partitions: Collection[TopicPartition]) -> None:
        await pause(consumer, partitions)
        if any(each.topic == WEBHOOK_TOPIC for each in partitions):
            paused.set()

    monkeypatch.setattr(SqliteConsumer, "pause", note_pause)
    async with WorkerLab.open(tmp_path) as lab, lab.running(Provider(does)):
        await lab.append(a_delivery(1, address="https://first/"))
        await lab.until_told("deferred", count=1)
        await paused.wait()
        await lab.append(a_delivery(2))

        await lab.until_told("sent", count=1)


async def test_what_one_provider_refuses_another_carries(tmp_path: Path) -> None:
    async def refuses(to: str) -> Outcome:
        del to
        return Misconfigured(reason="quota used up")

    main, backup = Provider(refuses), Provider()
    async with WorkerLab.open(tmp_path) as lab, lab.running(main, backup):
        await lab.append(*(a_delivery(number, address=f"https://{number}/") for number in range(40)))
        sent = await lab.until_told("sent", count=20)

    assert {event.provider for event in sent} == {"b"}
    assert len(main.sent) <= 20


async def test_what_one_provider_may_have_taken_no_other_is_given(tmp_path: Path) -> None:
    async def silent(to: str) -> Outcome:
        del to
        return Unknown(reason="no answer")

    main, backup = Provider(silent), Provider(silent)
    async with WorkerLab.open(tmp_path) as lab, lab.running(main, backup):
        await lab.append(*(a_delivery(number, address=f"https://{number}/") for number in range(8)))
        told = await lab.until_told("unknown", count=8)
        waiting = [read_delivery(record) for record in await lab.records("pabal.delay.critical.5")]

    assert {event.provider for event in told} == {"a", "b"}
    assert {each.id: each.provider for each in waiting} == {event.delivery_id: event.provider for event in told}


async def test_what_cannot_be_read_stays_out_of_the_dead_topic_until_the_brake_is_released(tmp_path: Path) -> None:
    async with WorkerLab.open(tmp_path) as lab:
        producer = lab.broker.producer()
        await producer.append([NewRecord(topic=WEBHOOK_TOPIC, key=None, value=b"{}") for _ in range(200)])
        await lab.append(a_delivery())
        async with lab.running(Provider(), guard={"brake_records": 20}) as channel:
            # The delivery was read with them, and waits with them.
            await eventually(lambda: channel.intakes["critical"].in_flight == 201)
            await lab.append(a_delivery(1, class_="bulk"))
            await lab.until_told("sent")
            assert await lab.records("pabal.dead.webhook") == []

            released = BrakeState(state="released", at=datetime.now(UTC), reason="known")
            await producer.append([brake_record("webhook", "critical", released)])
            deadline = asyncio.get_running_loop().time() + 10
            while len(await lab.records("pabal.dead.webhook")) < 200:
                assert asyncio.get_running_loop().time() < deadline
                await asyncio.sleep(0.02)
            await lab.until_told("sent", count=2)


async def test_a_brake_that_was_on_before_the_start_holds_from_the_first_record_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    provider = Provider()
    now = datetime.now(UTC)
    async with WorkerLab.open(tmp_path) as lab:
        producer = lab.broker.producer()
        await producer.append(
            [brake_record("webhook", "critical", BrakeState(state="braked", at=now, reason="as tested"))]
        )
        await lab.append(*(a_delivery(number) for number in range(20)))
        with caplog.at_level(logging.ERROR, logger="pabal.worker.class_brakes"):
            async with lab.running(provider):
                await lab.append(a_delivery(100, class_="bulk"))
                await lab.until_told("sent")
                assert len(provider.sent) <= 2  # A poll that finds out what is assigned may bring a record with it.
                assert "brake on: webhook critical takes nothing more: as tested" in caplog.text
                assert "pabal brake release webhook critical" in caplog.text

                await producer.append(
                    [brake_record("webhook", "critical", BrakeState(state="released", at=now, reason="fine"))]
                )
                await lab.until_told("sent", count=21)
