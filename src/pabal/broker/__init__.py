"""The log: a port and its two adapters, Kafka and one embedded SQLite file."""
