"""The laws of the store as a test class that every implementation passes.

Subclass `StoreContract` in a test module and hand it a `StoreDatabase`; pytest (with pytest-asyncio in auto mode) runs
every law. tests/store/test_sqlite_store.py is a whole one.
"""

from tests.store.laws.answers import AnswerLaws, ListLaws, UnaccountedLaws
from tests.store.laws.folding import FoldLaws, PruneLaws, ReportedLaws, SetAsideLaws
from tests.store.laws.lab import StoreDatabase

__all__ = ["StoreContract", "StoreDatabase"]


class StoreContract(AnswerLaws, ListLaws, UnaccountedLaws, FoldLaws, ReportedLaws, SetAsideLaws, PruneLaws):
    """What `pabal.store.port.Store` promises, law by law."""
