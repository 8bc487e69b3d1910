"""Pabal, a notification platform on Kafka whose operating rules are part of the program."""

__version__ = "0.1.0"
