"""The laws of the store as a test class that every implementation passes.

Subclass `StoreContract` in a test module and hand it a `StoreDatabase`; pytest (with pytest-asyncio in auto mode) runs
every law. tests/store/test_sqlite_store.py is a whole one.
"""

from pabal.testing._store_answers import AnswerLaws, ListLaws, UnaccountedLaws
from pabal.testing._store_folding import FoldLaws, PruneLaws, ReportedLaws, SetAsideLaws
from pabal.testing._store_lab import StoreDatabase

__all__ = ["StoreContract", "StoreDatabase"]


class StoreContract(AnswerLaws, ListLaws, UnaccountedLaws, FoldLaws, ReportedLaws, SetAsideLaws, PruneLaws):
    """What `pabal.store.port.Store` promises, law by law."""
