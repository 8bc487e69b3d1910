"""Every scenario, in the order of the table."""

from chaos import brokers, crashes, neighbours, providers, surroundings

SCENARIOS = (
    *crashes.SCENARIOS,
    *brokers.SCENARIOS,
    *surroundings.SCENARIOS,
    *providers.SCENARIOS,
    *neighbours.SCENARIOS,
)
