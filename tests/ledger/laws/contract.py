"""The laws of the ledger as a test class that every implementation passes.

Subclass `LedgerContract` in a test module and hand it a `LedgerStore`; pytest (with pytest-asyncio in auto mode) runs
every law. tests/ledger/test_sqlite_ledger.py is a whole one.
"""

from tests.ledger.laws.answers import AnswerLaws
from tests.ledger.laws.lab import LedgerStore
from tests.ledger.laws.owners import ConcurrencyLaws, DurabilityLaws, OwnerLaws

__all__ = ["LedgerContract", "LedgerStore"]


class LedgerContract(AnswerLaws, ConcurrencyLaws, OwnerLaws, DurabilityLaws):
    """What `pabal.ledger.port.Ledger` promises, law by law."""
