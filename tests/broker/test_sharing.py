"""Who gets which partition."""

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from pabal.broker.sqlite.sharing import share_partitions

TOPICS = "xyz"


@st.composite
def groups(draw: st.DrawFn) -> tuple[Mapping[int, set[str]], Mapping[int, str], Mapping[int, int]]:
    members = draw(st.dictionaries(st.integers(1, 6), st.sets(st.sampled_from(TOPICS), min_size=1), max_size=6))
    topics = draw(st.lists(st.sampled_from(TOPICS), max_size=12))
    partitions = dict(enumerate(topics))
    current = draw(st.dictionaries(st.integers(0, 14), st.integers(1, 8), max_size=14))
    return members, partitions, current


@settings(deadline=None)
@given(groups())
def test_every_partition_that_someone_subscribes_has_one_subscriber(
    group: tuple[Mapping[int, set[str]], Mapping[int, str], Mapping[int, int]],
) -> None:
    members, partitions, current = group

    shares = share_partitions(members=members, partitions=partitions, current=current)

    assert shares.keys() == {
        each for each, topic in partitions.items() if any(topic in topics for topics in members.values())
    }
    assert all(partitions[each] in members[member] for each, member in shares.items())


@settings(deadline=None)
@given(groups())
def test_nobody_has_two_more_than_another_who_could_have_one_of_them(
    group: tuple[Mapping[int, set[str]], Mapping[int, str], Mapping[int, int]],
) -> None:
    members, partitions, current = group

    shares = share_partitions(members=members, partitions=partitions, current=current)

    counts = {member: list(shares.values()).count(member) for member in members}
    for partition, owner in shares.items():
        able = [counts[member] for member in members if partitions[partition] in members[member]]
        assert counts[owner] <= min(able) + 1


@settings(deadline=None)
@given(groups())
def test_a_share_that_is_right_stays_as_it_is(
    group: tuple[Mapping[int, set[str]], Mapping[int, str], Mapping[int, int]],
) -> None:
    members, partitions, current = group

    shares = share_partitions(members=members, partitions=partitions, current=current)

    assert share_partitions(members=members, partitions=partitions, current=shares) == shares


def test_a_newcomer_takes_no_more_than_its_share() -> None:
    partitions = dict.fromkeys(range(6), "x")
    current = dict.fromkeys(range(6), 1)

    shares = share_partitions(members={1: ["x"], 2: ["x"]}, partitions=partitions, current=current)

    assert sum(member == 2 for member in shares.values()) == 3
    assert all(member == 1 for member in shares.values() if member != 2)


def test_the_partitions_of_one_who_left_go_to_those_with_least() -> None:
    partitions = dict.fromkeys(range(6), "x")
    current = {0: 1, 1: 1, 2: 1, 3: 2, 4: 3, 5: 3}

    shares = share_partitions(members={1: ["x"], 2: ["x"]}, partitions=partitions, current=current)

    assert shares == {0: 1, 1: 1, 2: 1, 3: 2, 4: 2, 5: 2}
