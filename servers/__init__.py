"""Real servers on this machine for tests, benchmarks and chaos: Apache Kafka, PostgreSQL. Not in the wheel."""
