"""Everything Pabal raises that a caller might want to catch.

::

    PabalError
    ├── ConfigError            a setting, file or command line that cannot be used; says where and what would do
    ├── InvalidAddress         an address its channel cannot carry
    ├── DecodeError            bytes of a record that we cannot read (its `error_class` is a stable word)
    ├── TemplateError          a template that is unknown, does not compile or does not render
    ├── RenderingUnavailable   a large template cannot be rendered now: trying again is safe
    ├── LogError               the log (Kafka or the embedded one)
    │   ├── LogUnavailable     it did not answer in time: the outcome is unknown, trying again is safe
    │   ├── UnknownTopic       a topic does not exist; the message names the command that creates it
    │   ├── OffsetOutOfRange   a position that is not kept: unread records were deleted, or it is above the end
    │   ├── NotAssigned        commit, pause, resume or seek of a partition this member does not own (fencing)
    │   ├── RecordRefused      the log will never take this record (too large, …); `indexes` says which
    │   └── Closed             use after `close`
    ├── OwnerEnded             another process has taken this one's place in the ledger: it must end
    ├── LedgerUnavailable      the ledger did not answer: nothing was claimed that we know of
    ├── StoreUnavailable       the store did not answer: nothing was recorded that we know of; trying again is safe
    ├── StoreRefused           the store will never take a fact (a number too large for its column, …)
    ├── InvalidCursor          a list cannot be continued from there
    ├── ReceiptRefused         a callback that does not prove that it comes from the provider
    ├── UnreadableReceipt      a provider's callback that is genuine, and says nothing that we can read
    ├── NoSuchLetter           no dead letter stands at that place
    ├── LetterRefused          what is asked cannot be done to this dead letter
    └── RedriveHeld            another redrive of these letters is under way; one at a time

Expected results of work (an `Outcome`, a `Verdict`) are values, not exceptions.
"""

from collections.abc import Sequence


class PabalError(Exception):
    """Base of every error that Pabal raises on purpose."""


class ConfigError(PabalError):
    """A setting, file or command line cannot be used."""


class InvalidAddress(PabalError):
    """The channel cannot carry this address; the message says why, without the path."""


class DecodeError(PabalError):
    """The bytes of a record cannot be read. They belong on the dead topic, raw."""

    def __init__(self, message: str, *, error_class: str) -> None:
        super().__init__(message)
        self.error_class = error_class


class TemplateError(PabalError):
    """A template is unknown, does not compile or does not render with the data given."""


class RenderingUnavailable(PabalError):
    """The process for large templates cannot be started, or too many wait for it. Says nothing about the template."""


class LogError(PabalError):
    """Something about the log: see the subclasses."""


class LogUnavailable(LogError):
    """The log did not acknowledge in time. What was asked may or may not have happened."""


class UnknownTopic(LogError):
    """A topic does not exist. Pabal never creates one by accident."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"topic {topic!r} does not exist; create Pabal's topics with: pabal topics create --log URL")
        self.topic = topic


class OffsetOutOfRange(LogError):
    """A position at which its partition keeps no record: unread records were deleted, or it lies above the end.

    `offset` is the position, `low` and `high` are the partition's watermarks; None where that is not known. A consumer
    always says which partition.
    """

    def __init__(
        self,
        message: str,
        *,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
        low: int | None = None,
        high: int | None = None,
    ) -> None:
        super().__init__(message)
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.low = low
        self.high = high


class NotAssigned(LogError):
    """This member does not own the partition (any more), so it may not commit, pause, resume or seek it."""


class RecordRefused(LogError):
    """The log will never take these records: too large, or not allowed on their topic. Trying again is no use.

    `indexes` are theirs among the records of the append. The others of it may have been written or not, and may be
    appended again without these.
    """

    def __init__(self, message: str, *, indexes: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.indexes = tuple(indexes)


class Closed(LogError):
    """The object was closed; make a new one."""


class OwnerEnded(PabalError):
    """Another process opened the ledger under this one's name, or found it dead: it may claim nothing more."""


class LedgerUnavailable(PabalError):
    """The ledger did not answer. Nothing may be sent until it does."""


class StoreUnavailable(PabalError):
    """The store did not answer. Folding the same facts again is safe."""


class StoreRefused(PabalError):
    """The store will never take one of these facts (a number too large for its column, …). None of them was folded."""


class InvalidCursor(PabalError):
    """A cursor that no list gave out."""


class ReceiptRefused(PabalError):
    """A callback that does not prove that it comes from the provider: no signature, a wrong one, an old one."""


class UnreadableReceipt(PabalError):
    """A callback that comes from the provider, and that we cannot read; the message says what is wrong with it."""


class NoSuchLetter(PabalError):
    """No dead letter stands at that place (any more)."""


class LetterRefused(PabalError):
    """What is asked cannot be done to this dead letter: it is closed, cannot be read, or may have been sent."""


class RedriveHeld(PabalError):
    """Another redrive of these letters is under way; one at a time.

    `tenant` owns the letters of the other redrive (empty: it works on the letters of every tenant). The message
    describes that redrive, and is meant for that tenant and for operators.
    """

    def __init__(self, message: str, *, tenant: str = "") -> None:
        super().__init__(message)
        self.tenant = tenant
