"""A `pabal up` of its own to attack, and what can be seen of it from outside."""

import asyncio
import contextlib
import resource
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self

import aiohttp
import msgspec
import psutil

from attack.watched import Stall, StallFile
from pabal.cli.key import as_toml, make_key, make_webhook_secret

HOST = "127.0.0.1"
_START_SECONDS = 120.0
_ANSWER_SECONDS = 60.0
_DESCRIPTORS = 1024
"""The soft limit under which most systems start a process."""

_CONFIG = """\
templates = "{templates}"

{key}

{operator}

[tenants.shop]
webhook_secrets = ["{secret}"]

[providers.webhook]
allow = ["127.0.0.0/8"]
timeout_seconds = 2.0

[providers.smtp]
sender = "Shop <shop@example.com>"
receipt_secrets = ["{secret}"]
"""

_TEMPLATE = """\
title = "Order {{ order }} shipped"
body = "{% for item in items %}{{ item }} {% endfor %}for {{ name }}"

[sample]
order = 17
name = "Ana"
items = ["tea", "rice"]
"""


class NotAlive(Exception):
    """The target does not do its work any more; the message says what it printed."""


class NothingAttacked(Exception):
    """An attack came to nothing: the target took no part of it, so that it proves nothing."""


class Target:
    """A running `pabal up`, seen through its API, its process and its log file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = self.inbox_port = 0
        self.key, entry = make_key("shop", scopes=("send", "read"))
        self.operator_key, operator = make_key("shop", scopes=("send", "read", "operator"))
        self.secret = make_webhook_secret()
        self._entries = (as_toml(entry), as_toml(operator))
        self._stall = StallFile(folder / "stall")
        self._log = folder / "up.log"
        self._process: Process | None = None
        self._asked = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, folder: Path) -> AsyncIterator[Self]:
        """A target in a folder of its own; it ends with this context. Raises NotAlive when it does not come up."""
        target = cls(folder)
        await target._start()
        try:
            yield target
        finally:
            await target._end()

    @property
    def url(self) -> str:
        """Of the API."""
        return f"http://{HOST}:{self.port}"

    @property
    def hook(self) -> str:
        """A webhook's URL that answers well."""
        return f"http://{HOST}:{self.inbox_port}/hook/attack"

    def memory_mb(self) -> float:
        """Resident memory of the process and its children, in MB (10⁶ bytes)."""
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 1e6

    def longest_stall(self) -> Stall:
        """Of its event loop, since `forget_stalls`."""
        return self._stall.read()

    def forget_stalls(self) -> None:
        """Begin anew."""
        self._stall.forget()

    def printed(self) -> str:
        """What it printed."""
        return self._log.read_text(errors="replace")

    def tracebacks(self) -> Sequence[str]:
        """What it printed from the first traceback on: none of them is in order."""
        printed = self.printed()
        return [printed[printed.index("Traceback") :][:4000]] if "Traceback" in printed else []

    async def prove_alive(self, *, within_seconds: float = _ANSWER_SECONDS) -> None:
        """A mail and a webhook that are asked for now are sent. Raises NotAlive."""
        self._asked += 1
        body = {
            "to": [
                {"channel": "webhook", "address": self.hook},
                {"channel": "email", "address": f"alive-{self._asked}@example.com"},
            ],
            "class": "critical",
            "content": {"title": "Still there?", "body": "Yes."},
        }
        try:
            async with asyncio.timeout(within_seconds):
                accepted = await self._insist("POST", "/v1/notifications", body)
                for delivery in accepted["deliveries"]:
                    await self._until_sent(delivery["id"])
        except TimeoutError:
            raise NotAlive(f"nothing was sent within {within_seconds:.0f} s:\n{self.printed()[-4000:]}") from None

    async def _until_sent(self, delivery: str) -> None:
        while True:
            told = await self._insist("GET", f"/v1/deliveries/{delivery}?wait=1")
            if told["status"] == "sent":
                return
            await asyncio.sleep(0.05)

    async def _insist(self, method: str, path: str, body: object = None) -> Any:
        """Ask until the answer is a success: a 404 is not recorded yet, a 503 is to be tried again."""
        headers = {"Authorization": f"Bearer {self.key}"}
        while True:
            assert self._process is not None
            if self._process.returncode is not None:
                raise NotAlive(f"it ended with {self._process.returncode}:\n{self.printed()[-4000:]}")
            try:
                async with (
                    aiohttp.ClientSession(headers=headers) as http,
                    http.request(method, self.url + path, json=body) as answer,
                ):
                    if answer.ok:
                        return msgspec.json.decode(await answer.read())
                    if answer.status not in (404, 429, 503):
                        raise NotAlive(f"{method} {path} was answered {answer.status}: {await answer.text()}")
            except aiohttp.ClientError:
                pass  # Not listening yet, or it closed a connection: the next try is another one.
            await asyncio.sleep(0.1)

    async def _start(self) -> None:
        templates = self.folder / "templates"
        templates.mkdir(exist_ok=True)
        (templates / "order.toml").write_text(_TEMPLATE)
        config = self.folder / "pabal.toml"
        key, operator = self._entries
        config.write_text(_CONFIG.format(templates=templates, key=key, operator=operator, secret=self.secret))
        command = [sys.executable, "-m", "attack.watched", str(self.folder / "stall"), "up"]
        command += ["--data", str(self.folder / "data"), "--config", str(config)]
        command += ["--port", "0", "--inbox-port", "0", "--smtp-port", "0"]
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=Path(__file__).parent.parent,
                preexec_fn=_lower_descriptors,
            )
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while not (self.port and self.inbox_port):
            if self._process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise NotAlive(f"it did not come up:\n{self.printed()[-4000:]}")
            await asyncio.sleep(0.05)
            self.port, self.inbox_port = _port_in(self.printed(), "API"), _port_in(self.printed(), "inbox")

    async def _end(self) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 30)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


def _lower_descriptors() -> None:
    """In the child: the usual soft limit, whatever this process may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, hard))


def _port_in(printed: str, name: str) -> int:
    """The port in the greeting's line that begins with `name`; 0: it is not printed yet."""
    for line in printed.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].startswith("http://"):
            return int(words[1].rpartition(":")[2])
    return 0
