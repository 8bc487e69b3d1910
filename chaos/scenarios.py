"""Every scenario, in the order of the table."""

from chaos import crashes, surroundings

SCENARIOS = (*crashes.SCENARIOS, *surroundings.SCENARIOS)
