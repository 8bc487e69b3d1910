"""`pabal offsets` and `pabal store unaccounted` as a person calls them, on a log with deleted records."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from click.testing import CliRunner, Result

from pabal.broker.port import TopicPartition
from pabal.cli.main import main
from pabal.compose.stores import open_store
from pabal.config import Settings
from pabal.offsets.passed import PassedOver, passed_record
from tests.offsets.lab import DamagedLog
from tests.offsets.test_roles import GROUP, append, damage, to
from tests.store.laws.lab import a_delivery
from tests.worker.lab import WEBHOOK_TOPIC

WHERE = (GROUP, WEBHOOK_TOPIC, "0")


def pabal(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--data", str(folder)], catch_exceptions=False)


def with_damage(folder: Path, *, is_read: bool = True) -> None:
    async def run() -> None:
        async with DamagedLog.opened(str(folder / "log.db")) as log:
            if is_read:
                await damage(log)
                await log.at_the_end("pabal.recorder", [WEBHOOK_TOPIC])
            else:
                await append(log, TopicPartition(WEBHOOK_TOPIC, 0), to(1), to(2))
                await log.delete_all(WEBHOOK_TOPIC)
        store = open_store(Settings(), folder)
        soon = datetime.now(UTC) + timedelta(hours=1)
        await store.fold([msgspec.structs.replace(a_delivery(), expires_at=soon)])
        await store.close()

    asyncio.run(run())


def test_what_stands_still_is_listed_with_the_command_that_goes_on_and_fails_the_command(tmp_path: Path) -> None:
    with_damage(tmp_path)

    for command in (("offsets", "list"), ("store", "unaccounted")):
        result = pabal(tmp_path, *command)

        assert result.exit_code == 1
        assert f"{GROUP}  {WEBHOOK_TOPIC}/0  3 records were deleted unread, offsets 0 to 2\n" in result.output
        assert f"pabal offsets skip {GROUP} {WEBHOOK_TOPIC} 0 --reason WHY" in result.output
        assert "Error: 1 ranges of records" in result.output


def test_what_was_skipped_is_shown_with_who_and_why_and_is_no_failure(tmp_path: Path) -> None:
    with_damage(tmp_path)

    skipped = pabal(tmp_path, "offsets", "skip", *WHERE, "--reason", "disk lost", "--by", "Ada")
    listed, accounted = pabal(tmp_path, "offsets", "list"), pabal(tmp_path, "store", "unaccounted")

    assert (skipped.exit_code, listed.exit_code, accounted.exit_code) == (0, 0, 0)
    assert "goes on at 3" in skipped.output
    for result in (listed, accounted):
        assert "3 records skipped, offsets 0 to 3 (deleted)" in result.output
        assert "Ada: disk lost" in result.output
    assert "nothing stands still" in listed.output
    assert "every delivery is accounted for" in accounted.output


def test_nothing_is_skipped_where_nothing_stands_still(tmp_path: Path) -> None:
    with_damage(tmp_path)

    sound = pabal(tmp_path, "offsets", "skip", GROUP, WEBHOOK_TOPIC, "1", "--reason", "why not")
    unknown = pabal(tmp_path, "offsets", "skip", GROUP, "pabal.events", "0", "--reason", "why not")

    assert (sound.exit_code, unknown.exit_code) == (1, 1)
    assert "does not stand still" in sound.output
    assert "does not read 'pabal.events'" in unknown.output
    assert "1 ranges" in pabal(tmp_path, "offsets", "list").output


def test_records_deleted_before_a_group_ever_read_are_told_until_a_person_has_decided(tmp_path: Path) -> None:
    with_damage(tmp_path, is_read=False)

    before = pabal(tmp_path, "offsets", "list")
    for group in (GROUP, "pabal.recorder"):
        assert pabal(tmp_path, "offsets", "skip", group, WEBHOOK_TOPIC, "0", "--reason", "a trial").exit_code == 0
    after = pabal(tmp_path, "offsets", "list")

    assert (before.exit_code, after.exit_code) == (1, 0)
    assert "2 records were deleted unread, offsets 0 to 1; the group has never committed there" in before.output


def with_two_passed_over(folder: Path) -> None:
    passed = PassedOver(
        group=GROUP, topic=WEBHOOK_TOPIC, partition=0, from_=0, to=2, count=2, at=datetime.now(UTC) - timedelta(hours=1)
    )

    async def run() -> None:
        async with DamagedLog.opened(str(folder / "log.db")) as log:
            await append(log, passed.topic_partition, to(1), to(2))
            await log.at_the_end(GROUP, [WEBHOOK_TOPIC])
            await log.broker.producer().append([passed_record(passed)])

    asyncio.run(run())


def test_what_was_passed_over_is_left_unread_when_a_person_says_so(tmp_path: Path) -> None:
    with_two_passed_over(tmp_path)

    left = pabal(tmp_path, "offsets", "skip", *WHERE, "--reason", "old news")
    listed = pabal(tmp_path, "offsets", "list")

    assert (left.exit_code, listed.exit_code) == (0, 0)
    assert "2 deliveries" in left.output
    assert "nothing stands still" in listed.output


def test_what_was_passed_over_is_listed_and_rewound(tmp_path: Path) -> None:
    with_two_passed_over(tmp_path)

    listed = pabal(tmp_path, "offsets", "list")
    elsewhere = pabal(tmp_path, "offsets", "rewind", GROUP, WEBHOOK_TOPIC, "1", "--reason", "why not")
    rewound = pabal(tmp_path, "offsets", "rewind", *WHERE, "--reason", "a slip")

    assert (listed.exit_code, elsewhere.exit_code, rewound.exit_code) == (1, 1, 0)
    assert "has passed over 2 deliveries" in listed.output
    assert "nothing is known to be passed over" in elsewhere.output
    assert rewound.output == f"{GROUP} reads {WEBHOOK_TOPIC}/0 again from 0 on\n"
    assert "nothing stands still" in pabal(tmp_path, "offsets", "list").output
