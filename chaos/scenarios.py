"""Every scenario, in the order of the table."""

from chaos import brokers, callers, crashes, neighbours, providers, surroundings, watching

SCENARIOS = (
    *crashes.SCENARIOS,
    *brokers.SCENARIOS,
    *surroundings.SCENARIOS,
    *callers.SCENARIOS,
    *providers.SCENARIOS,
    *neighbours.SCENARIOS,
    *watching.SCENARIOS,
)
