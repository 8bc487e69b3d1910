"""Which records there are. Pure."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pabal.audit import AUDIT_SCHEMA, AuditFact
from pabal.codec import DELIVERY_SCHEMA, EVENT_SCHEMA, RECEIPT_SCHEMA, SUPPRESSION_SCHEMA
from pabal.dlq.redrive.claim import CLAIM_SCHEMA, TopicClaim
from pabal.monitor.history import HISTORY_SCHEMA, Minute
from pabal.notification import Delivery, DeliveryEvent, Receipt, Suppression
from pabal.offsets.passed import PASSED_SCHEMA, PassedOver
from pabal.offsets.seeks import SEEK_SCHEMA, Seek
from pabal.ops.brakes import BRAKE_SCHEMA, BrakeState
from pabal.ops.ledger_identity import LEDGER_SCHEMA, LedgerRecord
from pabal.ops.recoveries import RECOVERY_SCHEMA, Recovery
from pabal.ops.template_library import TEMPLATE_SCHEMA
from pabal.status.records import SAMPLE_SCHEMA, STATUS_SCHEMA, LagSample, ProcessStatus
from pabal.template import TemplateSource


class RecordType(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of record. `open_words`: fields whose set of words grows; readers must pass over those they do not know.

    Only what nobody acts upon by having to understand it may be open: an event that is passed over is a gap in
    somebody's count, a suppression that is passed over is a mail to somebody who complained.
    """

    schema: str
    model: type[Any]
    open_words: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The name of its JSON Schema's file."""
        return f"{self.schema.replace('/', '-')}.json"


RECORDS: Final[Mapping[str, RecordType]] = {
    record.schema: record
    for record in (
        RecordType(schema=DELIVERY_SCHEMA.decode(), model=Delivery),
        RecordType(schema=EVENT_SCHEMA.decode(), model=DeliveryEvent, open_words=("kind",)),
        RecordType(schema=RECEIPT_SCHEMA.decode(), model=Receipt, open_words=("kind",)),
        RecordType(schema=SUPPRESSION_SCHEMA.decode(), model=Suppression),
        RecordType(schema=TEMPLATE_SCHEMA.decode(), model=TemplateSource),
        RecordType(schema=LEDGER_SCHEMA.decode(), model=LedgerRecord),
        RecordType(schema=CLAIM_SCHEMA.decode(), model=TopicClaim),
        RecordType(schema=BRAKE_SCHEMA.decode(), model=BrakeState),
        RecordType(schema=SEEK_SCHEMA.decode(), model=Seek),
        RecordType(schema=PASSED_SCHEMA.decode(), model=PassedOver),
        RecordType(schema=RECOVERY_SCHEMA.decode(), model=Recovery),
        RecordType(schema=AUDIT_SCHEMA.decode(), model=AuditFact),
        RecordType(schema=STATUS_SCHEMA.decode(), model=ProcessStatus),
        RecordType(schema=SAMPLE_SCHEMA.decode(), model=LagSample),
        RecordType(schema=HISTORY_SCHEMA.decode(), model=Minute),
    )
}
