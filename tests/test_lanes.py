from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pabal.lanes import Lanes

WEIGHTS = {"critical": 8, "standard": 3, "bulk": 1}


def test_items_of_one_order_key_leave_one_at_a_time_in_order() -> None:
    lanes: Lanes[str] = Lanes(WEIGHTS)
    for item in ("first", "second"):
        lanes.put(item, class_="bulk", key="ana")
    lanes.put("other", class_="bulk", key="bo")

    assert lanes.take() == "first"
    assert lanes.take() == "other"
    assert lanes.take() is None

    lanes.leave(class_="bulk", key="ana")
    assert lanes.take() == "second"


def test_classes_share_by_weight_and_none_starves() -> None:
    lanes: Lanes[str] = Lanes(WEIGHTS)
    for class_ in WEIGHTS:
        for number in range(100):
            lanes.put(class_, class_=class_, key=number)

    taken = Counter(lanes.take() for _ in range(48))

    assert taken == {"critical": 32, "standard": 12, "bulk": 4}


def test_an_idle_class_costs_the_others_nothing() -> None:
    lanes: Lanes[int] = Lanes(WEIGHTS)
    for number in range(100):
        lanes.put(number, class_="bulk", key=number)

    assert [lanes.take() for _ in range(100)] == list(range(100))
    assert lanes.take() is None


@given(st.lists(st.tuples(st.sampled_from(sorted(WEIGHTS)), st.integers(0, 3)), max_size=60), st.data())
def test_everything_put_in_comes_out_once_and_in_order_per_key(
    puts: list[tuple[str, int]], data: st.DataObject
) -> None:
    lanes: Lanes[tuple[str, int, int]] = Lanes(WEIGHTS)
    for number, (class_, key) in enumerate(puts):
        lanes.put((class_, key, number), class_=class_, key=key)

    out: list[tuple[str, int, int]] = []
    busy: list[tuple[str, int, int]] = []
    while len(out) < len(puts):
        item = lanes.take()
        if item is not None:
            assert (item[0], item[1]) not in {(class_, key) for class_, key, _ in busy}
            busy.append(item)
            out.append(item)
        if busy and (item is None or data.draw(st.booleans())):
            class_, key, _ = busy.pop(data.draw(st.integers(0, len(busy) - 1)))
            lanes.leave(class_=class_, key=key)

    for class_, key in set(puts):
        numbers = [number for c, k, number in out if (c, k) == (class_, key)]
        assert numbers == sorted(numbers)
    assert len(set(out)) == len(puts)


def test_one_tenants_two_thousand_do_not_stand_before_anothers_one() -> None:
    lanes: Lanes[str] = Lanes(WEIGHTS)
    for number in range(2000):
        lanes.put("many", class_="bulk", key=number, tenant="loud")
    lanes.put("one", class_="bulk", key=0, tenant="quiet")

    assert "one" in {lanes.take(), lanes.take()}


def test_tenants_take_turns_and_keep_the_order_of_their_own() -> None:
    lanes: Lanes[tuple[str, int]] = Lanes(WEIGHTS)
    for tenant in ("a", "b", "c"):
        for number in range(3 if tenant == "b" else 5):
            lanes.put((tenant, number), class_="bulk", key=number, tenant=tenant)

    taken = [lanes.take() for _ in range(13)]

    assert taken[:9] == [(tenant, number) for number in range(3) for tenant in ("a", "b", "c")]
    assert taken[9:] == [("a", 3), ("c", 3), ("a", 4), ("c", 4)]


def test_the_same_order_key_of_two_tenants_is_two_lanes() -> None:
    lanes: Lanes[str] = Lanes(WEIGHTS)
    lanes.put("a", class_="bulk", key="order-17", tenant="a")
    lanes.put("b", class_="bulk", key="order-17", tenant="b")

    assert {lanes.take(), lanes.take()} == {"a", "b"}


def test_a_class_that_is_held_gives_out_nothing_and_goes_on_in_order() -> None:
    lanes: Lanes[str] = Lanes(WEIGHTS)
    lanes.put("before", class_="critical", key="ana")
    assert lanes.take() == "before"
    lanes.put("first", class_="critical", key="ana")
    lanes.put("second", class_="critical", key="ana")
    lanes.put("other", class_="bulk", key="bo")

    lanes.hold("critical")
    lanes.leave(class_="critical", key="ana")
    assert [lanes.take(), lanes.take()] == ["other", None]

    lanes.let_go("critical")
    assert [lanes.take(), lanes.take()] == ["first", None]
    lanes.leave(class_="critical", key="ana")
    assert lanes.take() == "second"
