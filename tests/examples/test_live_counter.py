"""Somebody else's program, beside Pabal on a real Kafka."""

import asyncio
import re
import sys
import uuid
from pathlib import Path

from tests.events.log import a_receipt, an_event, append

SCRIPT = Path(__file__).parents[2] / "examples" / "live-counter" / "live_counter.py"


async def test_it_counts_each_event_once_by_channel_and_kind(kafka_bootstrap: str) -> None:
    channel = f"c{uuid.uuid4().hex[:8]}"
    twice = an_event("deferred", channel=channel)
    told = [*(an_event("sent", channel=channel) for _ in range(5)), twice, twice]
    await append(kafka_bootstrap, told[:3])
    arguments = [sys.executable, str(SCRIPT), "--bootstrap", kafka_bootstrap, "--group", f"counter-{channel}"]
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None

    try:
        async with asyncio.timeout(60):
            await _printed(process.stdout, f"{channel} +delivery.sent +3")
            # What happens while it runs is counted while it runs.
            await append(kafka_bootstrap, [*told[3:], a_receipt(uuid.uuid4())])
            await _printed(process.stdout, f"{channel} +delivery.deferred +1")
            await _printed(process.stdout, f"{channel} +delivery.sent +5")
            await _printed(process.stdout, r"smtp +receipt.bounced +\d+")
    finally:
        process.terminate()
        status = await process.wait()
    assert status == 0


def test_it_imports_nothing_of_pabal() -> None:
    imported = re.findall(r"^(?:from|import) (\w+)", SCRIPT.read_text(), re.MULTILINE)

    assert "pabal" not in imported
    assert "confluent_kafka" in imported


async def _printed(stdout: asyncio.StreamReader, pattern: str) -> None:
    while not re.search(pattern, line := (await stdout.readline()).decode()):
        assert line, f"it ended without printing {pattern}"
