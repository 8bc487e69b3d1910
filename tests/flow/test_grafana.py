"""A real Prometheus scrapes a whole installation, and every query of the dashboard returns data."""

import asyncio
import contextlib
import json
import math
from asyncio.subprocess import DEVNULL, STDOUT
from collections.abc import AsyncIterator, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pabal.simulator import HttpBehaviour
from tests.flow.installation import Installation
from tests.flow.processes import free_port
from tests.programs import needs_program
from tests.waiting import eventually_told

pytestmark = pytest.mark.timeout(240)

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana.json"

CONFIG = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: pabal
    static_configs: [{{targets: ["{target}"]}}]
"""


def queries() -> Iterator[str]:
    """Every query of the dashboard, as Grafana would ask it of a run that is young."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"].replace("$__rate_interval", "30s")


class Prometheus:
    """A Prometheus of one's own."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    @classmethod
    @contextlib.asynccontextmanager
    async def scraping(cls, address: str, *, folder: Path) -> AsyncIterator["Prometheus"]:
        """One that scrapes this address; killed at the end."""
        (folder / "prometheus.yml").write_text(CONFIG.format(target=address.removeprefix("http://")))
        port = free_port()
        with (folder / "prometheus.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                needs_program("prometheus", package="prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
            )
        try:
            async with aiohttp.ClientSession() as http:
                yield cls(http, f"http://127.0.0.1:{port}")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def ask(self, query: str) -> list[float]:
        """The values of an instant query; none while Prometheus does not answer yet, or says 503: it is starting."""
        try:
            async with self._http.get(f"{self._url}/api/v1/query", params={"query": query}) as answer:
                if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
                    return []
                told: Mapping[str, Any] = await answer.json()
        except aiohttp.ClientConnectionError:
            return []
        if told["status"] != "success":
            return []
        return [float(series["value"][1]) for series in told["data"]["result"]]


async def test_every_query_of_the_dashboard_returns_data(tmp_path: Path) -> None:
    asked = list(queries())
    classes = {"critical": {"ladder_seconds": [5]}}
    async with Installation.running(f"sqlite:{tmp_path / 'log.db'}", classes=classes) as pabal:
        await pabal.simulator.behave(HttpBehaviour(path="/busy", status=503))
        async with Prometheus.scraping(pabal.address, folder=tmp_path) as prometheus:

            async def without_data() -> list[str]:
                return [query for query in asked if not any(map(_is_number, await prometheus.ask(query)))]

            async def all_have_data() -> bool:
                await pabal.ask_webhook()
                await pabal.ask_webhook("/busy")
                return not await without_data()

            with contextlib.suppress(AssertionError):
                await eventually_told(all_have_data, within_seconds=90)

            assert await without_data() == []
            assert len(asked) > 15


def _is_number(value: float) -> bool:
    """A quantile of nothing is NaN: the query ran, and no data came."""
    return not math.isnan(value)
