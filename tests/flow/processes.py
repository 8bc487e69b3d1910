"""Pabal's commands as processes of their own, to be killed."""

import asyncio
import contextlib
import hashlib
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from pabal.simulator import Simulator
from tests.flow.installation import KEY, SCOPES, SECRETS
from tests.waiting import eventually_told

CONFIG = """\
[[api.keys]]
tenant = "shop"
hash = "{hash}"
scopes = {scopes}

[tenants.shop]
webhook_secrets = ["{secret}"]

[providers.webhook]
allow = ["127.0.0.0/8"]
timeout_seconds = 2.0

[providers.smtp]
host = "127.0.0.1"
port = {smtp_port}
tls = "none"
sender = "Shop <shop@example.com>"
"""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


class Commands:
    """Starts `pabal` commands against one log and configuration, and ends them all at the end."""

    def __init__(self, folder: Path, *, log_url: str, simulator: Simulator) -> None:
        self.simulator = simulator
        self.port = free_port()
        self._folder = folder
        self._common = ["--log", log_url, "--data", str(folder), "--config", str(folder / "pabal.toml")]
        config = CONFIG.format(
            hash=hashlib.sha256(KEY.encode()).hexdigest(),
            secret=SECRETS[0],
            smtp_port=simulator.smtp_port,
            scopes=list(SCOPES),
        )
        (folder / "pabal.toml").write_text(config)
        self._processes: list[Process] = []

    @classmethod
    @contextlib.asynccontextmanager
    async def ready(cls, folder: Path, *, log_url: str) -> AsyncIterator["Commands"]:
        """Commands that can be started, and a simulator to send to."""
        async with await Simulator.start() as simulator:
            commands = cls(folder, log_url=log_url, simulator=simulator)
            try:
                yield commands
            finally:
                for process in commands._processes:
                    if process.returncode is None:
                        process.kill()
                        await process.wait()

    async def start(self, *arguments: str) -> Process:
        """Start one command; what it prints goes to a file in the folder."""
        output = (self._folder / f"{len(self._processes)}-{arguments[0]}.log").open("wb")
        with output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "pabal", *arguments, *self._common, stdout=output, stderr=output
            )
        self._processes.append(process)
        return process

    async def run(self, *arguments: str) -> int:
        """Start one command and wait for its end."""
        return await (await self.start(*arguments)).wait()

    async def until_ready(self, *, within_seconds: float = 20.0) -> None:
        """Wait until the API answers that the log does."""
        async with aiohttp.ClientSession() as http:

            async def is_ready() -> bool:
                try:
                    async with http.get(f"http://127.0.0.1:{self.port}/readyz") as answer:
                        return answer.status == 200
                except aiohttp.ClientConnectionError:
                    return False  # It does not listen yet.

            try:
                await eventually_told(is_ready, within_seconds=within_seconds)
            except AssertionError as error:
                raise AssertionError(self.printed()) from error

    async def ask_webhooks(self, count: int, *, batch: int = 100) -> list[str]:
        """Ask for `count` webhooks to the simulator; returns the ids of the deliveries accepted."""
        accepted: list[str] = []
        one = {
            "to": [{"channel": "webhook", "address": f"{self.simulator.url}/hook"}],
            "class": "standard",
            "content": {"body": "hello"},
        }
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            for _ in range(count // batch):
                url = f"http://127.0.0.1:{self.port}/v1/notifications/batch"
                async with http.post(url, json={"notifications": [one] * batch}) as answer:
                    results = msgspec.json.decode(await answer.read())["results"]
                    accepted += [result["accepted"]["deliveries"][0]["id"] for result in results]
        return accepted

    async def call(self, method: str, path: str, *, body: object = None) -> Any:
        """A request that is answered with success; its answer."""
        headers = {"Authorization": f"Bearer {KEY}"}
        url = f"http://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession(headers=headers) as http, http.request(method, url, json=body) as answer:
            text = await answer.text()
            assert answer.ok, text
            return msgspec.json.decode(text)

    def arrived(self, accepted: Sequence[str]) -> int:
        """How many of the accepted deliveries the simulator has received at least once."""
        return len(self.simulator.counts().by_key.keys() & set(accepted))

    def printed(self) -> str:
        """Everything the commands printed, for a failure's message."""
        return "\n".join(f"== {file.name}\n{file.read_text()}" for file in sorted(self._folder.glob("*.log")))


async def kill(process: Process) -> None:
    """SIGKILL: no warning, no clean-up."""
    process.send_signal(signal.SIGKILL)
    await process.wait()
