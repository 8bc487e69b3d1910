"""The examples of docs/inbox.md, run against an inbox."""

import asyncio
import re
from pathlib import Path
from typing import Any

from pabal.providers.smtp.provider import SmtpProvider
from tests.inbox.visitors import Browser, mail

DOCS = (Path(__file__).parents[2] / "docs" / "inbox.md").read_text(encoding="utf-8")
WAITING, EMBEDDING = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)


async def test_the_example_for_end_to_end_tests_finds_the_mail(mailer: SmtpProvider, browser: Browser) -> None:
    example: dict[str, Any] = {}
    exec(WAITING, example)
    await mail(mailer, body="Your code is 402 113.", to="ana@example.com")

    text = await asyncio.to_thread(example["wait_for_mail"], "ana@example.com", inbox=browser.url)

    assert text == "Your code is 402 113.\n"


async def test_the_example_for_programs_runs() -> None:
    example: dict[str, Any] = {}
    exec(EMBEDDING, example)

    await example["run"]()

    assert example["inbox"].smtp_address[1] > 0
