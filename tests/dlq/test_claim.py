from datetime import timedelta

from pabal.broker.port import NewRecord
from pabal.dlq.claim import LEASE_SECONDS, Claims, TopicClaim, claim_record, release_record
from tests.dlq.letters import NOW, in_the_log

ANA = TopicClaim(topic="pabal.dead.webhook", token="a", plan="p-1", by="ana", host="h-1", since=NOW)
BEN = TopicClaim(topic="pabal.dead.webhook", token="b", plan="p-2", by="ben", host="h-2", since=NOW)
TOPIC = ANA.topic


def after(*records: tuple[NewRecord, float]) -> Claims:
    claims = Claims()
    for record, seconds in records:
        claims.take(in_the_log(record, at=NOW + timedelta(seconds=seconds)))
    return claims


def test_of_two_claims_that_cross_the_first_in_the_log_holds() -> None:
    claims = after((claim_record(ANA), 0.0), (claim_record(BEN), 0.1))

    assert claims.holder(TOPIC, now=NOW) == ANA


def test_a_claim_ends_with_its_lease_and_then_another_holds() -> None:
    later = LEASE_SECONDS + 1
    claims = after((claim_record(ANA), 0.0))
    assert claims.holder(TOPIC, now=NOW + timedelta(seconds=later)) is None

    claims = after((claim_record(ANA), 0.0), (claim_record(BEN), later))
    assert claims.holder(TOPIC, now=NOW + timedelta(seconds=later)) == BEN


def test_a_claim_that_is_renewed_goes_on() -> None:
    claims = after((claim_record(ANA), 0.0), (claim_record(ANA), 10.0), (claim_record(BEN), 20.0))

    assert claims.holder(TOPIC, now=NOW + timedelta(seconds=20)) == ANA
    assert claims.seconds_left(TOPIC, now=NOW + timedelta(seconds=20)) == LEASE_SECONDS - 10


def test_a_claim_that_is_let_go_leaves_room_at_once() -> None:
    claims = after((claim_record(ANA), 0.0), (release_record(TOPIC), 1.0), (claim_record(BEN), 1.1))

    assert claims.holders(now=NOW) == [BEN]


def test_other_records_of_the_topic_change_nothing() -> None:
    other = NewRecord(topic="pabal.ops", key=b"template/1", value=b"{}")
    newer = NewRecord(topic="pabal.ops", key=b"redrive/pabal.dead.webhook", value=b"[]", headers=(("schema", b"x/2"),))
    mangled = NewRecord(topic="pabal.ops", key=b"redrive/x", value=b"[", headers=(("schema", b"redrive-claim/1"),))

    assert after((other, 0.0), (newer, 0.0), (mangled, 0.0)).holders(now=NOW) == []
