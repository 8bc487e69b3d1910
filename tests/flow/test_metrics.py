"""What a whole installation counts: every metric of the table, and Prometheus finds nothing to say about it."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as read_text

from pabal.broker.port import NewRecord
from pabal.notification import STATUS_TOPIC, delay_topic
from pabal.simulator import HttpBehaviour
from pabal.telemetry.table import METRICS
from tests.flow.installation import Installation
from tests.programs import needs_program
from tests.waiting import eventually, eventually_told

pytestmark = pytest.mark.timeout(120)

_NOT_IN_THIS_RUN = {
    # A park needs an outage that lasts; `tests/worker/test_metering.py` counts one.
    "pabal_parks_total",
    # Neither does anything end after a redrive.
    "pabal_redriven_total",
    # The embedded log has no replicas.
    "kafka_topic_partition_in_sync_replica",
    "kafka_topic_partition_under_replicated_partition",
}

_DELIVERY = {"class": "critical", "content": {"title": "Order 17 shipped", "body": "It arrives tomorrow."}}


@pytest.fixture
async def pabal(tmp_path: Path) -> AsyncIterator[Installation]:
    classes = {"critical": {"ladder_seconds": [5]}}
    async with Installation.running(f"sqlite:{tmp_path / 'log.db'}", classes=classes) as installation:
        yield installation


def values_of(exposed: str) -> dict[str, float]:
    """Every sample that was exposed, by its name and labels."""
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for family in read_text(exposed)
        for sample in family.samples
    }


async def test_every_metric_of_the_table_is_counted_by_a_run_that_has_all_of_it(pabal: Installation) -> None:
    hook = f"{pabal.simulator.url}/shop"
    await pabal.ask({**_DELIVERY, "to": [{"channel": "webhook", "address": hook}]})
    await eventually(lambda: pabal.simulator.requests())
    await pabal.simulator.behave(HttpBehaviour(status=503))
    await pabal.ask({**_DELIVERY, "to": [{"channel": "webhook", "address": hook}]})

    for topic in ("pabal.deliveries.webhook.bulk", delay_topic("critical", 5), STATUS_TOPIC):
        await pabal.append(NewRecord(topic=topic, key=b"damaged", value=b"{}"))

    async def nothing_is_missing() -> bool:
        return {name for name in METRICS if f"# TYPE {name}" not in await pabal.exposed()} <= _NOT_IN_THIS_RUN

    await eventually_told(nothing_is_missing, within_seconds=60)

    async def unreadable_by_role() -> bool:
        counted = values_of(await pabal.exposed())
        return all(
            counted.get(f"pabal_undecodable_total {role}") for role in METRICS["pabal_undecodable_total"].counted_in
        )

    await eventually_told(unreadable_by_role, within_seconds=60)
    exposed = await pabal.exposed()
    values = values_of(exposed)

    assert values["pabal_accepted_total webhook critical"] == 2
    assert values["pabal_http_requests_total 202 /v1/notifications"] == 2
    assert values["pabal_ended_total webhook critical sent"] == 1
    assert values["pabal_time_to_send_seconds_count webhook critical"] == 1
    assert values["pabal_attempts_total webhook critical accepted webhook"] == 1
    assert values["pabal_undecodable_total worker"] == values["pabal_undecodable_total delayline"] == 1
    assert values["pabal_recorded_total events"] >= 1
    assert values["pabal_retries_total webhook critical"] == 1
    assert values["pabal_intake_held webhook critical guard"] in (0, 1)
    assert 'tenant="' not in exposed
    assert "127.0.0.1" not in exposed

    checked = subprocess.run(  # noqa: ASYNC221 - it ends at once
        [needs_program("promtool", package="prometheus"), "check", "metrics"],
        input=exposed.encode(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert checked.stdout + checked.stderr == b""
