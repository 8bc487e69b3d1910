"""What the doctor says of what it saw."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from pabal.broker.port import TopicSpec
from pabal.database_reading import Looked
from pabal.doctor import machine
from pabal.doctor.clock import judge_clock
from pabal.doctor.databases import judge_ledger, judge_store
from pabal.doctor.log import compare_topics
from pabal.doctor.machine import check_configuration_file, check_descriptors, check_disk, check_files
from pabal.ops.ledger_identity import LedgerRecord, Recorded
from pabal.topics.spec import topics_for

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
CHANNELS = ("email", "webhook")
A, B = UUID(int=1), UUID(int=2)


def topics(**changes: object) -> dict[str, TopicSpec]:
    """All topics as they should be, `pabal.deliveries.email.bulk` changed."""
    found = {spec.name: spec for spec in topics_for(CHANNELS, partitions=6, replication=3)}
    name = "pabal.deliveries.email.bulk"
    return found | {name: msgspec.structs.replace(found[name], **changes)}


def compare(existing: dict[str, TopicSpec]) -> list[tuple[str, str]]:
    return [(each.level, each.text) for each in compare_topics(existing, channels=CHANNELS, create="CREATE")]


def test_topics_as_they_should_be_are_fine() -> None:
    assert compare(topics()) == [("ok", "all 36 are there")]


def test_missing_topics_are_counted_some_of_them_named_and_the_command_is_said() -> None:
    [(level, text)] = compare({name: spec for name, spec in topics().items() if ".deliveries.email." not in name})

    assert level == "fail"
    assert text.startswith("3 of 36 are missing: pabal.deliveries.email.critical,")
    assert text.endswith("run: CREATE")


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"partitions": 3}, "warn", "most have 6 partitions, but pabal.deliveries.email.bulk (3)"),
        ({"replication": 1}, "warn", "1 have one copy"),
        ({"compacted": True}, "fail", "its cleanup.policy is compact, it has to be delete"),
        ({"retention_seconds": 3600}, "fail", "keeps its records for 3600 s"),
    ],
)
def test_a_topic_that_differs_is_named(changes: dict[str, object], level: str, words: str) -> None:
    [found] = compare(topics(**changes))

    assert found[0] == level
    assert words in found[1]


def test_a_topic_that_needs_one_partition_and_has_two_fails() -> None:
    existing = topics()
    existing["pabal.ops"] = msgspec.structs.replace(existing["pabal.ops"], partitions=2)

    assert compare(existing)[0][0] == "fail"


def looked(id_: UUID = A, **changes: object) -> Looked:
    return msgspec.structs.replace(Looked(version="3", expected="3", id=id_), **changes)


@pytest.mark.parametrize(
    ("ledger", "recorded", "level", "words"),
    [
        (looked(), A, "ok", "and the log belongs to it"),
        (looked(), None, "ok", "opens"),
        (None, None, "warn", "the first worker makes it"),
        (None, A, "fail", f"the log belongs to ledger {A}"),
        (looked(B), A, "fail", f"is ledger {B}, but the log belongs to {A}"),
        (looked(version="2"), A, "fail", "has version 2; this Pabal reads 3"),
        (looked(has_rows=True), None, "fail", "was the log deleted?"),
    ],
)
def test_a_ledger_is_right_if_the_log_belongs_to_it(
    ledger: Looked | None, recorded: UUID | None, level: str, words: str
) -> None:
    record = None if recorded is None else LedgerRecord(id=recorded, recorded_at=NOW)

    found = judge_ledger(ledger, place="HERE", said=Recorded(holds=record))

    assert (found.level, words in found.text) == (level, True)


@pytest.mark.parametrize(
    ("store", "is_file", "level"),
    [
        (Looked(version="0001", expected="0001"), True, "ok"),
        (None, True, "warn"),
        (None, False, "fail"),
        (Looked(version=None, expected="0001"), False, "fail"),
        (Looked(version="0000", expected="0001"), True, "warn"),
        (Looked(version="0000", expected="0001"), False, "fail"),
    ],
)
def test_a_store_in_postgresql_has_to_be_migrated_by_hand(store: Looked | None, is_file: bool, level: str) -> None:
    assert judge_store(store, place="HERE", is_file=is_file).level == level


@pytest.mark.parametrize(("seconds", "level"), [(0.5, "ok"), (-1.9, "ok"), (2.0, "warn"), (-59, "warn"), (60, "fail")])
def test_a_clock_is_judged_by_how_far_it_is_off(seconds: float, level: str) -> None:
    theirs = NOW - timedelta(seconds=seconds)

    [found] = judge_clock(NOW, others={"db": theirs}, appended=None)

    assert found.level == level
    assert ("ahead of" if seconds > 0 else "behind") in found.text


def test_an_event_of_long_ago_says_nothing_and_one_of_the_future_that_we_are_behind() -> None:
    assert judge_clock(NOW, others={}, appended=NOW - timedelta(days=1))[0].level == "ok"

    assert judge_clock(NOW, others={}, appended=NOW + timedelta(seconds=90))[0].level == "fail"


def test_files_that_others_can_read_are_named_with_the_command_that_closes_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "log.db-wal").touch(mode=0o644)
    (tmp_path / "log.db-wal").chmod(0o644)

    found = check_files([tmp_path / "log.db"], folder=tmp_path)

    assert [each.text.partition("; ")[2] for each in found] == [
        f"run: chmod 700 {tmp_path}",
        f"run: chmod 600 {tmp_path}/log.db-wal",
    ]
    assert {each.level for each in found} == {"warn"}


@pytest.mark.parametrize(
    ("content", "mode", "is_told"),
    [
        ('password = "x"', 0o644, True),
        ('webhook_secrets = ["whsec_AAAA"]', 0o640, True),
        ('password = "x"', 0o600, False),
        ('password = "env:PW"', 0o644, False),
    ],
)
def test_a_configuration_with_secrets_is_for_its_owner_alone(
    tmp_path: Path,
    content: str,
    mode: int,
    is_told: bool,
) -> None:
    path = tmp_path / "pabal.toml"
    path.write_text(content)
    path.chmod(mode)

    assert bool(check_configuration_file(path)) is is_told


def test_too_few_descriptors_are_a_warning_that_says_how_many_are_wanted() -> None:
    found = check_descriptors(calls=10_000_000)

    assert found.level == "warn"
    assert str(10_000_000 + machine.OWN_DESCRIPTORS) in found.text

    assert check_descriptors(calls=1).level == "ok"


def test_room_is_looked_for_where_the_folder_would_be_made(tmp_path: Path) -> None:
    assert check_disk(tmp_path / "not" / "yet").text.endswith(f"free for {tmp_path}/not/yet")


@pytest.mark.parametrize(
    ("fail_below", "warn_below", "level"), [(1 << 62, 1 << 62, "fail"), (0, 1 << 62, "warn"), (0, 0, "ok")]
)
def test_a_disk_is_judged_by_the_room_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fail_below: int, warn_below: int, level: str
) -> None:
    monkeypatch.setattr(machine, "_FAIL_BYTES", fail_below)
    monkeypatch.setattr(machine, "_WARN_BYTES", warn_below)

    assert check_disk(tmp_path).level == level


def test_a_log_whose_ledger_cannot_be_read_is_told_with_the_way_out() -> None:
    found = judge_ledger(looked(), place="HERE", said=Recorded(wrong="pabal.ops/0@7: not JSON"))

    assert found.level == "fail"
    assert "pabal.ops/0@7" in found.text
    assert "pabal ledger adopt" in found.text
