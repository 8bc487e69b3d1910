"""The simulator's HTTP side, over real sockets, on both event loops."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import aiohttp
import msgspec
import pytest

from pabal.simulator import HttpBehaviour, Phase, Schedule, Simulator
from pabal.simulator.control import refuse_stranger
from tests.waiting import eventually


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with await Simulator.start(random=Random(1)) as simulator:
        yield simulator


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        yield session


async def post(client: aiohttp.ClientSession, url: str, key: str = "k", **options: object) -> tuple[int, str]:
    async with client.post(url, data=b'{"a": 1}', headers={"webhook-id": key}, **options) as response:  # type: ignore[arg-type]
        return response.status, await response.text()


async def test_accepts_everything_by_default_and_counts_by_key(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    for key in ("a", "b", "b"):
        assert await post(client, f"{simulator.url}/hook", key) == (200, "")

    counts = simulator.counts()
    assert (counts.received, counts.distinct, counts.repeated, counts.without_key) == (3, 2, 1, 0)
    assert counts.by_key == {"a": 1, "b": 2}
    assert counts.by_answer == {"http 200": 3}
    assert [len(times) for times in simulator.arrivals().values()] == [1, 2]
    assert all(time > 1_700_000_000_000_000_000 for time in simulator.arrivals()["b"])


async def test_keeps_the_last_requests_whole(client: aiohttp.ClientSession) -> None:
    async with await Simulator.start(keep=2) as simulator:
        for number in range(3):
            await post(client, f"{simulator.url}/hook/{number}", f"key-{number}")

        assert [received.path for received in simulator.requests()] == ["/hook/1", "/hook/2"]
        assert simulator.requests()[1].body == b'{"a": 1}'
        assert simulator.requests()[1].headers["webhook-id"] == "key-2"


async def test_answers_with_the_status_and_retry_after_it_is_told(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    await simulator.behave(HttpBehaviour(status=429, retry_after_seconds=7, body="slow down"))

    async with client.post(simulator.url) as response:
        assert (response.status, response.headers["retry-after"]) == (429, "7")
        assert await response.text() == "slow down"


@pytest.mark.parametrize("status", [204, 299, 304, 599])
async def test_any_final_status_can_be_asked_for(
    simulator: Simulator, client: aiohttp.ClientSession, status: int
) -> None:
    await simulator.behave(HttpBehaviour(status=status))

    assert (await post(client, simulator.url))[0] == status


async def test_a_path_prefix_limits_a_behaviour_and_the_first_match_decides(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    await simulator.behave(HttpBehaviour(path="/a/b", status=500), HttpBehaviour(path="/a", status=404))

    statuses = [(await post(client, simulator.url + path))[0] for path in ("/a/b/c", "/a/c", "/b")]

    assert statuses == [500, 404, 200]


async def test_a_share_concerns_about_that_part_of_the_requests(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    await simulator.behave(HttpBehaviour(share=0.3, status=503))

    statuses = [(await post(client, simulator.url))[0] for _ in range(100)]

    assert 15 < statuses.count(503) < 45  # the fixture's seed makes it the same number each time
    assert statuses.count(200) + statuses.count(503) == 100


async def test_latency_passes_before_the_answer_and_requests_overlap(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    await simulator.behave(HttpBehaviour(latency_seconds=0.05))
    loop = asyncio.get_running_loop()
    started = loop.time()

    await asyncio.gather(*(post(client, simulator.url) for _ in range(20)))

    assert loop.time() - started >= 0.05


async def test_pipelined_requests_are_answered_in_order(simulator: Simulator) -> None:
    await simulator.behave(HttpBehaviour(path="/slow", status=201, latency_seconds=0.03))
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)

    writer.write(b"GET /slow HTTP/1.1\r\n\r\nGET /fast HTTP/1.1\r\n\r\nGET /slow HTTP/1.0\r\n\r\n")

    answers = await reader.read()
    assert [line.split()[1] for line in answers.split(b"\r\n") if line.startswith(b"HTTP")] == [b"201", b"200", b"201"]
    writer.close()


async def test_a_hanging_request_is_read_and_never_answered(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    await simulator.behave(HttpBehaviour(answer="hang"))

    with pytest.raises(TimeoutError):
        await post(client, simulator.url, timeout=aiohttp.ClientTimeout(total=0.1))

    assert simulator.counts().by_answer == {"http hang": 1}


async def test_a_reset_cuts_the_connection_after_the_request_was_read(simulator: Simulator) -> None:
    await simulator.behave(HttpBehaviour(answer="reset"))
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)

    writer.write(b"POST / HTTP/1.1\r\nwebhook-id: k\r\ncontent-length: 2\r\n\r\n{}")

    with pytest.raises(ConnectionResetError):
        await reader.read()
    assert simulator.counts().by_key == {"k": 1}
    writer.close()


async def test_half_open_accepts_and_reads_nothing_until_it_ends(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    await post(client, simulator.url)
    await simulator.behave(HttpBehaviour(answer="half_open"))

    kept_alive = asyncio.ensure_future(post(client, simulator.url, "kept-alive"))
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
    writer.write(b"POST / HTTP/1.1\r\nwebhook-id: new\r\ncontent-length: 0\r\n\r\n")
    await asyncio.wait([kept_alive], timeout=0.05)
    assert simulator.received == 1

    await simulator.behave()
    assert (await kept_alive)[0] == 200
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert set(simulator.counts().by_key) == {"k", "kept-alive", "new"}
    writer.close()


async def test_a_slow_body_comes_whole_but_late(simulator: Simulator, client: aiohttp.ClientSession) -> None:
    await simulator.behave(HttpBehaviour(answer="slow_body", body="x" * 50, body_seconds=0.05))

    async with client.post(simulator.url) as response:
        assert response.status == 200
        assert await response.text() == "x" * 50


async def test_refuse_closes_the_listener_and_opens_it_again_on_the_same_port(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    await post(client, simulator.url)

    await simulator.behave(HttpBehaviour(answer="refuse"))
    with pytest.raises(aiohttp.ClientConnectionError):
        await post(client, simulator.url)

    await simulator.behave()
    assert (await post(client, simulator.url))[0] == 200


async def test_what_is_not_http_is_refused(simulator: Simulator) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)

    writer.write(b"EHLO there\r\n\r\n")

    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    writer.close()


async def test_a_schedule_moves_on_after_exactly_so_many_requests(client: aiohttp.ClientSession) -> None:
    schedule = Schedule(
        phase=(
            Phase(),
            Phase(after_requests=2, http=(HttpBehaviour(status=503),)),
            Phase(after_requests=3, http=(HttpBehaviour(status=201),)),
        )
    )
    async with await Simulator.start(schedule=schedule) as simulator:
        statuses = [(await post(client, simulator.url))[0] for _ in range(7)]

        assert statuses == [200, 200, 503, 503, 503, 201, 201]


async def test_a_schedule_moves_on_after_so_many_seconds(client: aiohttp.ClientSession) -> None:
    schedule = Schedule(phase=(Phase(after_seconds=0.02, http=(HttpBehaviour(status=503),)),))
    async with await Simulator.start(schedule=schedule) as simulator:
        assert simulator.phase == Phase()

        await eventually(lambda: simulator.phase.http)
        assert (await post(client, simulator.url))[0] == 503


async def test_a_change_by_hand_ends_the_schedule(client: aiohttp.ClientSession) -> None:
    schedule = Schedule(phase=(Phase(after_requests=1, http=(HttpBehaviour(status=503),)),))
    async with await Simulator.start(schedule=schedule) as simulator:
        await simulator.behave(HttpBehaviour(status=202))

        assert [(await post(client, simulator.url))[0] for _ in range(3)] == [202, 202, 202]


async def test_forgetting_begins_the_counts_anew(simulator: Simulator, client: aiohttp.ClientSession) -> None:
    await post(client, simulator.url)

    simulator.forget()

    assert simulator.counts().received == 0
    assert simulator.arrivals() == {}


async def test_closing_cuts_what_hangs_and_is_idempotent(client: aiohttp.ClientSession) -> None:
    simulator = await Simulator.start()
    await simulator.behave(HttpBehaviour(answer="hang"))
    hanging = asyncio.ensure_future(post(client, simulator.url))
    await eventually(lambda: simulator.received == 1)

    await simulator.close()
    await simulator.close()

    with pytest.raises(aiohttp.ClientError):
        await hanging


async def control(client: aiohttp.ClientSession, method: str, url: str, body: object = None) -> tuple[int, object]:
    data = None if body is None else msgspec.json.encode(body)
    async with client.request(method, url, data=data) as response:
        return response.status, await response.json(content_type=None)


async def test_arrivals_are_read_with_and_without_what_a_status_refused(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    await simulator.behave(HttpBehaviour(path="/refuses", status=404), HttpBehaviour(path="/hangs", answer="hang"))
    for path, key in (("/refuses", "a"), ("/fine", "a"), ("/refuses", "b")):
        await post(client, f"{simulator.url}{path}", key)

    _, every = await control(client, "GET", f"{simulator.url}/_control/arrivals")
    _, taken = await control(client, "GET", f"{simulator.url}/_control/arrivals?refused=no")

    assert isinstance(every, dict)
    assert isinstance(taken, dict)
    assert {key: len(times) for key, times in every.items()} == {"a": 2, "b": 1}
    assert taken == {"a": [every["a"][1]]}


async def test_control_calls_change_the_behaviour_and_read_the_counts(
    simulator: Simulator, client: aiohttp.ClientSession
) -> None:
    told = {"http": [{"status": 503, "path": "/x"}]}
    status, _ = await control(client, "PUT", f"{simulator.url}/_control/behaviour", told)
    assert status == 200
    assert (await post(client, f"{simulator.url}/x", "a b"))[0] == 503

    _, counts = await control(client, "GET", f"{simulator.url}/_control/counts")
    assert counts == {
        "received": 1,
        "distinct": 1,
        "repeated": 0,
        "without_key": 0,
        "by_answer": {"http 503": 1},
        "by_key": {"a b": 1},
    }
    _, arrivals = await control(client, "GET", f"{simulator.url}/_control/arrivals")
    assert isinstance(arrivals, dict)
    assert arrivals == {"a b": [arrivals["a b"][0]]}
    assert await control(client, "GET", f"{simulator.url}/_control/arrivals/a%20b") == (200, arrivals["a b"])
    _, requests = await control(client, "GET", f"{simulator.url}/_control/requests")
    assert isinstance(requests, list)
    assert requests[0]["body"] == '{"a": 1}'

    assert await control(client, "DELETE", f"{simulator.url}/_control") == (200, {})
    _, counts = await control(client, "GET", f"{simulator.url}/_control/counts?by_key=no")
    assert isinstance(counts, dict)
    assert counts["received"] == 0


async def test_control_calls_begin_a_schedule(simulator: Simulator, client: aiohttp.ClientSession) -> None:
    told = {"phase": [{"http": [{"status": 500}]}, {"after_requests": 1}]}

    await control(client, "PUT", f"{simulator.control_url}/_control/schedule", told)

    assert [(await post(client, simulator.url))[0] for _ in range(2)] == [500, 200]


@pytest.mark.parametrize("answer", ["half_open", "refuse"])
async def test_the_control_port_answers_while_the_provider_does_not(
    simulator: Simulator, client: aiohttp.ClientSession, answer: str
) -> None:
    await control(client, "PUT", f"{simulator.control_url}/_control/behaviour", {"http": [{"answer": answer}]})
    assert simulator.phase.http[0].answer == answer

    status, now = await control(client, "PUT", f"{simulator.control_url}/_control/behaviour", {})

    assert (status, now) == (200, {})
    assert (await post(client, simulator.url))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("PUT", "/behaviour", {"http": [{"status": 42}]}, 400, "$.http[0].status"),
        ("PUT", "/behaviour", {"http": [{"statuss": 200}]}, 400, "`statuss`; there are: "),
        ("PUT", "/behaviour", {"http": [{"answer": "refuse", "path": "/x"}]}, 400, "refuse"),
        ("PUT", "/behaviour", {"after_seconds": 1}, 400, "begins at once"),
        ("PUT", "/schedule", {"phase": [{}, {}]}, 400, "phase 2"),
        ("PUT", "/schedule", {"phases": []}, 400, "`phases`; there are: phase"),
        ("POST", "/receipts", {"too": "x"}, 400, "`too`; there are: to, "),
        ("GET", "/nothing", None, 404, "/nothing"),
        ("POST", "/counts", None, 404, "/counts"),
    ],
)
async def test_a_wrong_control_call_is_a_problem_that_says_why(
    simulator: Simulator, client: aiohttp.ClientSession, method: str, path: str, body: object, status: int, says: str
) -> None:
    answer = await control(client, method, f"{simulator.control_url}/_control{path}", body)

    assert answer[0] == status
    assert isinstance(answer[1], dict)
    assert says in answer[1]["detail"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "example.com"}, 421),
        ({"Host": "localhost.example.com:9081"}, 421),
        ({"Host": "10.0.0.1"}, 421),
        ({"Host": "localhost:9081"}, 200),
        ({"Host": "localhost:9081", "Origin": "http://localhost:9081"}, 200),
        ({"Host": "localhost:9081", "Origin": "http://example.com"}, 403),
        ({"Host": "localhost:9081", "Origin": "http://localhost:8080"}, 403),
        ({"Host": "localhost:9081", "Origin": "null"}, 403),
    ],
)
@pytest.mark.parametrize("port", ["url", "control_url"])
async def test_a_page_of_a_stranger_makes_no_control_calls(
    simulator: Simulator, client: aiohttp.ClientSession, headers: dict[str, str], status: int, port: str
) -> None:
    url = f"{getattr(simulator, port)}/_control/behaviour"
    told = {"http": [{"status": 503}]}

    async with client.put(url, json=told, headers=headers) as answer:
        assert answer.status == status

    assert bool(simulator.phase.http) is (status == 200)


def test_the_address_that_was_connected_to_is_a_name_of_the_simulator() -> None:
    assert refuse_stranger([(b"Host", b"192.168.7.7:9081")], address="192.168.7.7") is None

    assert refuse_stranger([(b"Host", b"192.168.7.8:9081")], address="192.168.7.7") is not None

    assert refuse_stranger([], address="192.168.7.7") is not None

    assert refuse_stranger([(b"Host", b"localhost"), (b"host", b"localhost")], address="127.0.0.1") is not None
