"""Who of a group gets which partition: even shares, and as few moves as that takes. Pure.

Like Kafka's server-side uniform assignor (KIP-848): what a member has it keeps unless another has too little.
"""

from collections.abc import Collection, Mapping


def share_partitions(
    *,
    members: Mapping[int, Collection[str]],
    partitions: Mapping[int, str],
    current: Mapping[int, int],
) -> dict[int, int]:
    """Give every partition to one member that subscribes its topic.

    Args:
        members: topics subscribed, by member, eldest first.
        partitions: topic, by partition.
        current: member, by partition, as it was; members that are gone may be in it.

    Returns:
        Member, by partition; partitions of topics without a subscriber are absent. No member has two more
        than another that could have one of them.
    """
    shares: dict[int, list[int]] = {member: [] for member in members}
    for partition, topic in partitions.items():
        member = current.get(partition)
        if member in shares and topic in members[member]:
            shares[member].append(partition)

    kept = {partition for share in shares.values() for partition in share}
    for partition, topic in partitions.items():
        if partition not in kept and (able := [each for each in members if topic in members[each]]):
            min((shares[each] for each in able), key=len).append(partition)

    while move := _find_move(members, partitions, shares):
        partition, giver, taker = move
        shares[giver].remove(partition)
        shares[taker].append(partition)
    return {partition: member for member, share in shares.items() for partition in share}


def _find_move(
    members: Mapping[int, Collection[str]], partitions: Mapping[int, str], shares: Mapping[int, list[int]]
) -> tuple[int, int, int] | None:
    """A partition, who has too many and who has at least two fewer, if there is such a pair."""
    by_size = sorted(members, key=lambda member: len(shares[member]))
    for giver in reversed(by_size):
        for partition in reversed(shares[giver]):
            for taker in by_size:
                if len(shares[taker]) + 2 > len(shares[giver]):
                    break
                if partitions[partition] in members[taker]:
                    return partition, giver, taker
    return None
