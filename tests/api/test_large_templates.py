"""Templates that are too large for an event loop, asked for over HTTP."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from pabal.errors import RenderingUnavailable
from pabal.notification import Content
from pabal.rendering import RenderingProcess, RenderingStopped
from pabal.template import Template, parse_template
from tests.api.lab import Lab
from tests.api.test_notifications import ANA, check_problem

LARGE = parse_template(
    "report", "title = 'Report'\nbody = '''{% for row in rows %}\n{{ row.name * times }}{% endfor %}'''", path="report"
)
ROWS = [{"name": "a lamp"}] * 12_000


def asking(**data: object) -> dict[str, object]:
    return {"to": [ANA], "template": "report", "data": {"times": 1, **data}}


class Broken:
    """What renders large templates, out of order."""

    def __init__(self, error: Exception) -> None:
        self.asked = 0
        self._error = error

    async def render(self, template: Template, data: Mapping[str, Any]) -> Content:
        self.asked += 1
        raise self._error


@pytest.fixture
async def apart() -> AsyncIterator[RenderingProcess]:
    apart = RenderingProcess()
    yield apart
    await apart.close()


async def test_a_large_template_is_accepted_after_it_was_rendered_apart(apart: RenderingProcess) -> None:
    lab = Lab(templates={"report": LARGE}, apart=apart)

    reply = await lab.post(asking(rows=ROWS))

    assert reply.status == 202
    (delivery,) = lab.log.deliveries
    assert delivery.template is not None
    assert delivery.template.data == {"times": 1, "rows": ROWS}


async def test_a_template_that_runs_over_is_the_callers_error_and_says_where(apart: RenderingProcess) -> None:
    lab = Lab(templates={"report": LARGE}, apart=apart)

    problem = check_problem(await lab.post(asking(rows=ROWS, times=10**9)), "template_failed")

    (error,) = problem["errors"]
    assert error["path"] == "$.data"
    assert error["message"].startswith("body, line 2: takes more work than a template may")
    assert lab.log.appends == []


async def test_a_rendering_that_is_stopped_is_the_callers_error_at_once() -> None:
    apart = Broken(RenderingStopped("too slow"))
    lab = Lab(templates={"report": LARGE}, apart=apart)

    problem = check_problem(await lab.post(asking(rows=ROWS)), "template_failed")

    assert "too slow" in problem["detail"]
    assert apart.asked == 1


async def test_when_large_templates_cannot_be_rendered_now_the_caller_may_come_again() -> None:
    lab = Lab(templates={"report": LARGE}, apart=Broken(RenderingUnavailable("too many wait")))

    reply = await lab.post(asking(rows=ROWS))

    check_problem(reply, "rendering_unavailable")
    assert "retry-after" in reply.headers
    assert (await lab.post(asking(rows=ROWS[:3]))).status == 202


async def test_in_a_batch_a_template_that_runs_over_stops_no_other_item(apart: RenderingProcess) -> None:
    lab = Lab(templates={"report": LARGE}, apart=apart)
    items = [asking(rows=ROWS, times=10**9), asking(rows=ROWS), asking(rows=ROWS[:3])]

    reply = await lab.post({"notifications": items}, path="/v1/notifications/batch")

    assert [result["status"] for result in reply.json["results"]] == [422, 202, 202]
