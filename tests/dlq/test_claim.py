from datetime import timedelta

import msgspec

from pabal.broker.port import NewRecord
from pabal.dlq.redrive.claim import LEASE_SECONDS, Claims, TenantLetters, TopicClaim, claim_record, release_record
from tests.dlq.letters import NOW, in_the_log

ANA = TopicClaim(topic="pabal.dead.webhook", token="a", plan="p-1", by="ana", host="h-1", since=NOW)
BEN = TopicClaim(topic="pabal.dead.webhook", token="b", plan="p-2", by="ben", host="h-2", since=NOW)
TOPIC = ANA.letters


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


def of(tenant: str, token: str) -> TopicClaim:
    return msgspec.structs.replace(ANA, tenant=tenant, token=token, plan=f"p-{token}")


def test_claims_of_different_tenants_do_not_exclude_each_other() -> None:
    shop, bank, again = of("shop", "a"), of("bank", "b"), of("shop", "c")

    claims = after((claim_record(shop), 0.0), (claim_record(bank), 0.1), (claim_record(again), 0.2))

    assert claims.holder(shop.letters, now=NOW) == shop
    assert claims.holder(bank.letters, now=NOW) == bank
    assert claims.holder(TenantLetters(ANA.topic, "third"), now=NOW) is None


def test_a_claim_on_every_tenants_letters_excludes_each_of_theirs_and_the_other_way_round() -> None:
    shop, every = of("shop", "a"), of("", "e")

    first_all = after((claim_record(every), 0.0), (claim_record(shop), 0.1))
    first_one = after((claim_record(shop), 0.0), (claim_record(every), 0.1))

    assert first_all.holder(shop.letters, now=NOW) == every
    assert first_one.holder(every.letters, now=NOW) == shop
    assert [claim.token for claim in first_one.holders(now=NOW)] == ["a"]


def test_letting_go_of_one_tenants_letters_leaves_the_others_held() -> None:
    shop, bank = of("shop", "a"), of("bank", "b")

    claims = after((claim_record(shop), 0.0), (claim_record(bank), 0.1), (release_record(shop.letters), 0.2))

    assert claims.holders(now=NOW) == [bank]
    assert claims.holder(TenantLetters(ANA.topic, ""), now=NOW) == bank


def test_a_claim_that_says_another_tenant_than_its_key_holds_nothing() -> None:
    strange = claim_record(of("shop", "a"))

    claims = after((msgspec.structs.replace(strange, key=of("bank", "a").letters.key), 0.0))

    assert claims.holders(now=NOW) == []
