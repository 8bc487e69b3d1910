import pytest

from pabal.tracing.context import TraceContext, read_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_a_good_traceparent_is_read_and_written_alike() -> None:
    context = TraceContext.read(GOOD)

    assert context == TraceContext(int(TRACE, 16), int(SPAN, 16), 1)
    assert str(context) == GOOD


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (GOOD, GOOD),
        (f"00-{TRACE}-{SPAN}-00", f"00-{TRACE}-{SPAN}-00"),
        # Level 2's `random` flag travels on within the version that we know.
        (f"00-{TRACE}-{SPAN}-03", f"00-{TRACE}-{SPAN}-03"),
        (f"00-{TRACE}-{SPAN}-ff", f"00-{TRACE}-{SPAN}-03"),
        # Of a later version: the part that every version has, and the one flag that every version has.
        (f"01-{TRACE}-{SPAN}-03-and-what-comes-later", f"00-{TRACE}-{SPAN}-01"),
        (f"cc-{TRACE}-{SPAN}-01", GOOD),
    ],
)
def test_what_can_be_read_is_passed_on(given: str, passed_on: str) -> None:
    assert read_traceparent(given) == passed_on


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}",
        f" {GOOD}",
        f"{GOOD}\n",
        f"{GOOD}\r\nx-evil: 1",
        f"00-{TRACE}-{SPAN}-0١",
    ],
)
def test_what_is_malformed_counts_as_none(malformed: str) -> None:
    assert read_traceparent(malformed) is None


def test_none_stays_none() -> None:
    assert read_traceparent(None) is None
