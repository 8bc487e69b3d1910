"""`pabal simulator`: a provider to rehearse against."""

import asyncio
import signal
from pathlib import Path
from random import Random

import click
import uvloop
from rich.live import Live
from rich.text import Text

from pabal.cli.options import PORT, with_clear_errors
from pabal.cli.terminal import Terminal
from pabal.compose.listening import SocketAddress, listen_on
from pabal.simulator import Schedule, Simulator, load_schedule

_REFRESH_SECONDS = 0.5


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=PORT, default=9080, show_default=True, help="HTTP port, for webhooks (0: any free one).")
@click.option("--smtp-port", type=PORT, default=9025, show_default=True, help="SMTP port, for mail (0: any free one).")
@click.option(
    "--control-port",
    type=PORT,
    default=9081,
    show_default=True,
    help="HTTP port for control calls, answered whatever happens.",
)
@click.option(
    "--schedule",
    "schedule_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML or JSON file of phases: what goes wrong, and when (see docs/simulator.md).",
)
@click.option(
    "--keep",
    default=100,
    show_default=True,
    type=click.IntRange(min=0),
    help="How many of the last requests are kept whole.",
)
@click.option("--seed", type=int, help="Draw shares of requests from this seed, the same in every run.")
@with_clear_errors
def simulator(
    host: str, port: int, smtp_port: int, control_port: int, schedule_file: Path | None, keep: int, seed: int | None
) -> None:
    """A provider to rehearse against: takes webhooks over HTTP and mail over SMTP, and misbehaves on demand.

    It can be slow, refuse, throttle, hang, cut connections or be gone: by a schedule, or by control calls while it
    runs. It counts what it received by idempotency key (webhook-id, Message-ID), so that lost and twice are
    numbers. Ctrl-C prints the totals and ends it.
    """
    console = Terminal()
    schedule = load_schedule(schedule_file) if schedule_file is not None else None
    chosen = (("--port", port), ("--smtp-port", smtp_port), ("--control-port", control_port))
    # The simulator opens and closes its listeners itself; this only says of all at once which cannot be.
    with listen_on([SocketAddress(host=host, port=number, option=option) for option, number in chosen]):
        pass
    try:
        uvloop.run(
            _serve(
                console,
                host=host,
                ports=(port, smtp_port, control_port),
                schedule=schedule,
                keep=keep,
                random=Random(seed),
            )
        )
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}: {error.strerror}; choose other ports") from None


async def _serve(
    console: Terminal, *, host: str, ports: tuple[int, int, int], schedule: Schedule | None, keep: int, random: Random
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with await Simulator.start(
        host=host,
        port=ports[0],
        smtp_port=ports[1],
        control_port=ports[2],
        schedule=schedule,
        keep=keep,
        random=random,
    ) as running:
        console.print(f"webhooks  {running.url}/any/path")
        console.print(f"mail      smtp://{host}:{running.smtp_port}")
        console.print(f"control   {running.control_url}/_control/counts")
        body = '{"http": [{"status": 503, "share": 0.3, "latency_seconds": 0.2}]}'
        console.print(f"try       curl -X PUT {running.control_url}/_control/behaviour -d '{body}'", soft_wrap=True)
        if console.is_terminal:
            await _show_until(stop, running, console=console)
        else:
            await stop.wait()
        console.print(_totals(running))


async def _show_until(stop: asyncio.Event, running: Simulator, *, console: Terminal) -> None:
    """A line that counts, until the end is asked for."""
    with Live(console=console, transient=True, auto_refresh=False) as live:
        before = running.received
        while not stop.is_set():
            live.update(_totals(running, per_second=(running.received - before) / _REFRESH_SECONDS), refresh=True)
            before = running.received
            try:
                await asyncio.wait_for(stop.wait(), _REFRESH_SECONDS)
            except TimeoutError:
                continue


def _totals(running: Simulator, *, per_second: float | None = None) -> Text:
    counts = running.counts(by_key=False)
    line = f"received {counts.received:,}  distinct {counts.distinct:,}  repeated {counts.repeated:,}"
    if per_second is not None:
        line += f"  {per_second:,.0f}/s"
    answers = "  ".join(f"{answer}: {count:,}" for answer, count in sorted(counts.by_answer.items()))
    return Text(f"{line}  {answers}", overflow="ellipsis", no_wrap=True)
