import pytest

from pabal.tracing.context import NO_TRACE, Trace, TraceContext, read_traceparent, read_tracestate

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


@pytest.mark.parametrize(
    "listed",
    [
        "rojo=00f067aa0ba902b7",
        "rojo=1,congo=t61rcWkgMzE",
        "fw529a3039@dt=FfffffeC6f;43fe,0a/b_c*d-e= spaces within",
        ",".join(f"vendor{number}=1" for number in range(32)),
        f"{'k' * 256}=1",
        f"k={'v' * 256}",
        "same=1,same=2",
    ],
)
def test_a_good_tracestate_is_passed_on_word_for_word(listed: str) -> None:
    assert read_tracestate(listed) == listed


def test_white_space_and_empty_members_of_a_tracestate_are_left_out() -> None:
    assert read_tracestate(" a=1\t, ,b=2,,c=3 ") == "a=1,b=2,c=3"


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        " , ",
        "a",
        "a=",
        "=1",
        "A=1",
        "a=1,b",
        "a =1",
        "a=b=c",
        "a=\u00e9",
        "a=1\r\nx-evil: 1",
        f"{'k' * 257}=1",
        f"k={'v' * 257}",
        ",".join(f"vendor{number}=1" for number in range(33)),
    ],
)
def test_a_malformed_tracestate_counts_as_none_and_spares_the_traceparent(malformed: str) -> None:
    assert read_tracestate(malformed) is None
    assert Trace.read(GOOD, malformed) == Trace(traceparent=GOOD)


def test_a_tracestate_means_nothing_without_a_traceparent() -> None:
    assert Trace.read(None, "a=1") == Trace.read("malformed", "a=1") == NO_TRACE


def member(name: str, length: int) -> str:
    return f"{name}={'v' * (length - len(name) - 1)}"


def test_of_too_long_a_tracestate_long_members_go_first_and_then_the_last() -> None:
    long = [member(f"long{number}", 129) for number in range(2)]
    short = [member(f"short{number}", 128) for number in range(4)]

    assert read_tracestate(",".join([long[0], *short[:2], long[1]])) == ",".join([long[0], *short[:2]])
    assert read_tracestate(",".join([long[0], *short])) == ",".join(short[:3])
    assert read_tracestate(",".join([*short[:3], member("last", 125)])) == ",".join([*short[:3], member("last", 125)])
    assert read_tracestate(",".join([*short[:3], member("last", 126)])) == ",".join(short[:3])
    assert read_tracestate(member("k", 256) + "," + member("l", 256)) == member("k", 256)
