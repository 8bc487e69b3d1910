"""The laws of the log as a test class that every adapter passes: the embedded log, Kafka, yours.

Subclass `BrokerContract` in a test module, implement its four hooks, declare what differs, and pytest
(with pytest-asyncio in auto mode) runs every law. `docs/log.md` shows a whole example.
"""

from pabal.testing._broker_crash import CrashLaws
from pabal.testing._broker_groups import GroupLaws, StandstillLaws
from pabal.testing._broker_lab import BrokerHarness
from pabal.testing._broker_looking import LookingLaws
from pabal.testing._broker_model import ModelLaws
from pabal.testing._broker_records import RecordLaws
from pabal.testing._broker_topics import TopicLaws

__all__ = ["BrokerContract", "BrokerHarness"]


class BrokerContract(RecordLaws, TopicLaws, LookingLaws, GroupLaws, StandstillLaws, CrashLaws, ModelLaws):
    """Every law of `pabal.broker.port`. See `BrokerHarness` for the hooks and the declared differences."""
