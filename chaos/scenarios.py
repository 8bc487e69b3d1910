"""Every scenario, in the order of the table."""

from chaos import brokers, crashes, providers, surroundings

SCENARIOS = (*crashes.SCENARIOS, *brokers.SCENARIOS, *surroundings.SCENARIOS, *providers.SCENARIOS)
