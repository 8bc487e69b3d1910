"""How samples become figures."""

from bench.figures import Sample, Target, Wanted, measured, percentile
from bench.requests import BODY_BYTES, render_body, render_requests


def sample(system: str, number: int, cost: float, *, missing: int = 0) -> Sample:
    return Sample(system=system, round=number, values={"cost": cost}, accepted=10, missing=missing, duplicated=0)


def test_the_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    pairs = [(1.0, 1.2), (4.0, 8.0), (2.0, 3.0)]
    samples = [
        sample(name, number, cost)
        for number, pair in enumerate(pairs)
        for name, cost in zip(("sketch", "pabal"), pair, strict=True)
    ]

    result = measured("x", "X", samples, [Wanted(key="cost", title="cost", unit="s", target=Target(ratio_at_most=1.4))])

    (figure,) = result.figures
    assert (figure.sketch, figure.pabal, figure.ratio) == (2.0, 3.0, 1.5)
    assert figure.verdict == "missed"


def test_losses_of_all_rounds_are_added_up() -> None:
    result = measured("x", "X", [sample("pabal", 0, 1, missing=1), sample("sketch", 0, 1, missing=2)], [])

    assert (result.missing, result.duplicated) == (3, 0)


def test_several_conditions_hold_together() -> None:
    wanted = [
        Wanted(key="cost", title=str(at_least), unit="s", target=Target(at_most=5, at_least=at_least))
        for at_least in (3, 4.5)
    ]

    result = measured("x", "X", [sample("pabal", 0, 4.0)], wanted)

    assert [figure.verdict for figure in result.figures] == ["met", "missed"]
    assert result.figures[0].target == "≤ 5, ≥ 3"


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(1, 101)]

    assert [percentile(values, share) for share in (0.5, 0.99, 1)] == [50, 99, 100]
    assert percentile([7.0], 0.5) == 7


def test_bodies_are_of_one_size_and_requests_carry_a_key_of_their_own() -> None:
    assert {len(render_body(number, hook="http://127.0.0.1:9/hook")) for number in (0, 99_999)} == {BODY_BYTES}

    requests = render_requests(3, host="h", port=1, hook="http://127.0.0.1:9/hook", api_key="k")

    keys = {line for request in requests for line in request.split(b"\r\n") if line.startswith(b"idempotency-key")}
    assert len(keys) == 3
    assert all(b"authorization: Bearer k\r\n" in request for request in requests)
