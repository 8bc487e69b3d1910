"""`/healthz` and `/readyz`."""

import asyncio

import pytest

from pabal.errors import LogUnavailable, UnknownTopic
from tests.api.lab import Lab
from tests.api.test_notifications import check_problem


async def test_the_process_is_alive_whatever_the_log_does(lab: Lab) -> None:
    lab.leaders.fails = LogUnavailable("no leader")

    reply = await lab.get("/healthz")

    assert (reply.status, reply.json) == (200, {"status": "alive"})


async def test_a_process_of_which_a_part_has_died_is_not_alive_and_says_which() -> None:
    lab = Lab(ailments=lambda: ["nobody polls for the group pabal.recorder"])

    reply = await lab.get("/healthz")

    assert "pabal.recorder" in check_problem(reply, "not_alive")["detail"]


async def test_it_is_ready_when_every_topic_it_appends_to_answers(lab: Lab) -> None:
    reply = await lab.get("/readyz")

    assert (reply.status, reply.json) == (200, {"status": "ready"})
    assert set(lab.leaders.asked) == {
        f"pabal.deliveries.{channel}.{class_}"
        for channel in ("email", "webhook")
        for class_ in ("critical", "standard", "bulk")
    }


async def test_a_good_answer_stands_for_a_second(lab: Lab) -> None:
    await lab.get("/readyz")
    lab.leaders.fails = LogUnavailable("no leader")

    lab.clock.advance(0.9)
    assert (await lab.get("/readyz")).status == 200

    lab.clock.advance(0.1)
    assert (await lab.get("/readyz")).status == 503


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (LogUnavailable("no leader"), "log_unavailable"),
        (UnknownTopic("pabal.deliveries.email.bulk"), "topics_missing"),
    ],
)
async def test_it_is_not_ready_when_the_log_is_not(lab: Lab, failure: Exception, code: str) -> None:
    lab.leaders.fails = failure

    reply = await lab.get("/readyz")

    assert str(failure) in check_problem(reply, code)["detail"]
    assert reply.headers["retry-after"] == "2"


async def test_a_log_that_hangs_makes_every_probe_fail_in_time(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pabal.api.health.READY_TIMEOUT_SECONDS", 0.02)
    lab.leaders.hangs = True

    replies = await asyncio.gather(*(lab.get("/readyz") for _ in range(3)))

    assert [reply.status for reply in replies] == [503] * 3
    assert len(lab.leaders.asked) == 6, "one probe asks, the others wait for its answer"


async def test_a_defect_is_answered_as_a_problem_and_logged(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.leaders.fails = ZeroDivisionError("secret")

    reply = await lab.get("/readyz")

    check_problem(reply, "internal_error")
    assert "secret" not in reply.content.decode()
    assert "ZeroDivisionError: secret" in caplog.text
