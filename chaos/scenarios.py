"""Every scenario, in the order of the table."""

from chaos import brokers, crashes, surroundings

SCENARIOS = (*crashes.SCENARIOS, *brokers.SCENARIOS, *surroundings.SCENARIOS)
