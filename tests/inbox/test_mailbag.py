from datetime import UTC, datetime

from pabal.inbox.mailbag import CaughtEmail, Mailbag


def bag_of(*sizes: int, keep: int = 100, keep_octets: int = 100) -> Mailbag:
    bag = Mailbag(keep=keep, keep_octets=keep_octets)
    for size in sizes:
        add(bag, size=size)
    return bag


def add(bag: Mailbag, *, size: int) -> int:
    email = CaughtEmail(
        id_=bag.next_id(),
        received_at=datetime(2026, 1, 1, tzinfo=UTC),
        mail_from="noreply@example.com",
        rcpt_to=["ana@example.com"],
        raw=b"x" * size,
    )
    bag.add(email)
    return email.id


def ids(bag: Mailbag) -> list[int]:
    return [entry.id for entry in bag.newest_first()]


def test_the_newest_comes_first() -> None:
    assert ids(bag_of(1, 1, 1)) == [3, 2, 1]


def test_only_the_last_so_many_are_kept() -> None:
    bag = bag_of(1, 1, 1, 1, keep=3)

    assert ids(bag) == [4, 3, 2]
    assert bag.get(1) is None


def test_only_so_many_octets_are_kept() -> None:
    assert ids(bag_of(40, 40, 40, keep_octets=100)) == [3, 2]


def test_one_arrival_that_is_too_big_by_itself_is_still_shown() -> None:
    assert ids(bag_of(40, 500, keep_octets=100)) == [2]


def test_clearing_makes_room_and_does_not_give_numbers_out_again() -> None:
    bag = bag_of(60, 40, keep_octets=100)

    bag.clear()
    assert (ids(bag), len(bag)) == ([], 0)
    add(bag, size=60)
    add(bag, size=40)

    assert ids(bag) == [4, 3]


def test_every_change_has_a_revision_of_its_own() -> None:
    bag = bag_of(1)
    seen = [bag.revision]

    add(bag, size=1)
    seen.append(bag.revision)
    bag.clear()
    seen.append(bag.revision)

    assert len(set(seen)) == 3
