"""The process that renders large templates: what it renders, and what stops it without hurting anything else."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pabal.errors import RenderingUnavailable, TemplateError
from pabal.rendering import RenderingProcess, RenderingStopped
from pabal.sandbox.budget import WORK_HERE
from pabal.template import Template, TemplateSource, TooMuchWork, read_template

ROWS = [{"name": "a lämp", "price": 1.5}] * 20_000


def titled(text: str) -> Template:
    return Template(name="x", source=TemplateSource(title=text))


LARGE = titled("{% for row in rows %}{{ row.name | upper }} {{ row.price }}\n{% endfor %}")
SLOW = titled("{% for i in range(1000) %}{% for j in range(900) %}{{ '' }}{% endfor %}{% endfor %}")


@pytest.fixture
async def apart() -> AsyncIterator[RenderingProcess]:
    apart = RenderingProcess()
    yield apart
    await apart.close()


async def test_a_template_too_large_for_an_event_loop_is_rendered_alike_in_the_process(apart: RenderingProcess) -> None:
    source = {
        "title": "{{ rows | length }}",
        "email": {"html": "{% for row in rows %}<p>{{ row.name }}{% endfor %}"},
        "webhook": {"payload": "{{ rows | tojson }}"},
    }
    template = read_template("report", msgspec.json.encode(source))
    with pytest.raises(TooMuchWork):
        template.render({"rows": ROWS}, work=WORK_HERE)

    content = await apart.render(template, {"rows": ROWS})

    assert content == template.render({"rows": ROWS})


async def test_many_are_rendered_one_after_another_each_with_its_own_answer(apart: RenderingProcess) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(apart.render(titled("{{ n }}"), {"n": n})) for n in range(20)]

    assert [task.result().title for task in tasks] == [str(n) for n in range(20)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ x.y }}", "title: does not render with this data"),
        ("{{ x", "title: unexpected end of template"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "takes more work"),
        ("{{ 'a' * 2000000 }}", "at most 1048576"),
        ("{{ '%c' | format(55296) }}", "does not render to text that can be sent"),
    ],
)
async def test_what_cannot_be_rendered_is_the_templates_error(apart: RenderingProcess, text: str, says: str) -> None:
    template = titled("a")
    template.source_json = msgspec.json.encode({"title": text})

    with pytest.raises(TemplateError, match=says) as caught:
        await apart.render(template, {"x": {}})

    assert not isinstance(caught.value, RenderingStopped)


async def test_what_takes_too_long_is_stopped_and_the_next_is_rendered() -> None:
    apart = RenderingProcess(most_seconds=0.05)
    try:
        with pytest.raises(RenderingStopped, match=r"takes more than 0\.05 s or 512 MB"):
            await apart.render(SLOW, {})
        with pytest.raises(RenderingStopped):
            await apart.render(SLOW, {})
    finally:
        await apart.close()


async def test_what_takes_too_much_memory_is_stopped_and_the_next_is_rendered() -> None:
    apart = RenderingProcess(most_memory_bytes=160 * 1024 * 1024)
    # Within the budget, but each of these characters takes four bytes.
    hungry = titled("{% set a = '" + "\N{PARTY POPPER}" * 31 + "' * 300000 %}{% set b = a ~ a %}{% set c = b ~ a %}")
    try:
        with pytest.raises(RenderingStopped, match="memory"):
            await apart.render(hungry, {})
        assert (await apart.render(titled("{{ n }}"), {"n": 1})).title == "1"
    finally:
        await apart.close()


async def test_a_process_that_was_killed_is_started_again(apart: RenderingProcess) -> None:
    await apart.render(titled("a"), {})
    process: Any = apart._process
    process.kill()
    await process.wait()

    assert (await apart.render(titled("b"), {})).title == "b"


async def test_a_rendering_that_is_given_up_does_not_answer_the_next(apart: RenderingProcess) -> None:
    await apart.render(titled("a"), {})
    slow = asyncio.create_task(apart.render(LARGE, {"rows": ROWS}))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow

    assert (await apart.render(titled("b"), {})).title == "b"


async def test_when_too_many_wait_the_next_is_told_to_come_again() -> None:
    apart = RenderingProcess(most_waiting=2)
    waiting = [asyncio.create_task(apart.render(titled("a"), {})) for _ in range(2)]
    await asyncio.sleep(0)
    try:
        with pytest.raises(RenderingUnavailable, match="2 large templates wait"):
            await apart.render(titled("b"), {})
        assert [(await each).title for each in waiting] == ["a", "a"]
    finally:
        await apart.close()


async def test_the_process_knows_no_secrets_of_this_one(
    apart: RenderingProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PABAL_SECRET", "s3cret")

    await apart.render(titled("a"), {})

    process: Any = apart._process
    environment = Path(f"/proc/{process.pid}/environ")
    assert b"s3cret" not in await asyncio.to_thread(environment.read_bytes)
