from collections import Counter

from pabal.guard.balance import FIRST_SHARE, STEP_SECONDS, Balance


def picks(balance: Balance, count: int, *, now: float = 0.0, without: str = "") -> Counter[str | None]:
    return Counter(balance.pick(lambda name: name != without, now=now) for _ in range(count))


def test_deliveries_are_shared_exactly_by_weight() -> None:
    assert picks(Balance({"a": 9, "b": 1}), 100) == {"a": 90, "b": 10}


def test_what_is_not_usable_gets_nothing_and_the_others_all() -> None:
    assert picks(Balance({"a": 9, "b": 1}), 100, without="a") == {"b": 100}


def test_where_none_is_usable_nobody_is_picked() -> None:
    assert Balance({"a": 1}).pick(lambda _: False, now=0.0) is None


def test_what_was_down_comes_back_in_steps() -> None:
    balance = Balance({"a": 1, "b": 1})
    balance.down("a", now=0.0)
    balance.up("a", now=100.0)

    shares = []
    for step in range(12):
        got = picks(balance, 1100, now=100.0 + step * STEP_SECONDS)
        shares.append(got["a"] / (got["a"] + got["b"]))

    assert shares == sorted(shares)
    assert abs(shares[0] - FIRST_SHARE / (1 + FIRST_SHARE)) < 0.01
    assert abs(shares[-1] - 0.5) < 0.01


def test_the_only_one_left_gets_everything_however_small_its_share() -> None:
    balance = Balance({"a": 1, "b": 1})
    balance.down("a", now=0.0)

    assert picks(balance, 10, without="b") == {"a": 10}
