"""Every attack by its name."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from attack import bodies, connections, endpoints, requests
from attack.size import Size
from attack.target import Target

Attack = Callable[[Target, Size], Awaitable[int]]
"""Attacks a target and returns how often it tried; raises where the target failed at once."""

ATTACKS: Final[Mapping[str, Attack]] = {
    attack.__name__.replace("_", "-"): attack
    for attack in (
        connections.silent,
        connections.half_said,
        connections.slow_bodies,
        connections.endless_lines,
        connections.one_long_value,
        connections.endless_target,
        connections.endless_trailers,
        connections.endless_chunk_extensions,
        connections.pipelined,
        connections.no_http,
        bodies.damaged_requests,
        requests.long_polls,
        requests.long_addresses,
        requests.greedy_templates,
        requests.odd_receipts,
        requests.greedy_redrives,
        endpoints.endless_provisional_answers,
        endpoints.endless_head,
        endpoints.endless_body,
        endpoints.more_after_the_answer,
        endpoints.garbage,
    )
}
