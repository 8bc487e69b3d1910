"""What `pabal dlq redrive` shows while it runs: a bar on a terminal, a line now and then elsewhere."""

import asyncio
from typing import Final, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pabal.cli.terminal import Terminal, harmless
from pabal.dlq.redrive.answers import Tally
from pabal.dlq.redrive.claim import TopicClaim
from pabal.dlq.redrive.plan import Plan
from pabal.dlq.redrive.run import Watcher
from pabal.dlq.redrive.stepping import Pause, Send, Step, Stop

_WORDS: Final = {
    "canary": "waiting for the canary",
    "answers": "waiting for answers",
    "last_answers": "waiting for the last answers",
}


class RedriveProgress(Watcher):
    """A context; `stopping` is only looked at."""

    def __init__(self, console: Terminal, plan: Plan, *, stopping: asyncio.Event) -> None:
        self._console = console
        self._stopping = stopping
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[tally]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("reading the log", total=plan.redrives, tally="")
        self._said = ""

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def going_on(self, tally: Tally, step: Step) -> None:
        """See `Watcher.going_on`."""
        match step:
            case Send():
                words = "sending"
            case Pause(why=why):
                words = _WORDS[why]
            case Stop():
                words = "ending"
        if self._stopping.is_set():
            words = "stopping: marking what was begun"
        counts = f"{tally.sent:,} sent"
        for count, word in ((tally.returned, "dead again"), (tally.deferred, "refused again")):
            counts += f", {count:,} {word}" if count else ""
        self._progress.update(self._task, description=words, completed=tally.redriven, tally=counts)
        self._say(words, f"{words}: {tally.redriven:,} redriven, {counts}")

    def waiting_for_former_run(self, holder: TopicClaim, seconds: float) -> None:
        """See `Watcher.waiting_for_former_run`."""
        former = f"the former run ({harmless(holder.by)} on {harmless(holder.host)})"
        words = f"{former} ended without a word; its claim ends within"
        self._progress.update(self._task, description=f"{words} {seconds:.0f} s")
        self._say(words, f"{words} {seconds:.0f} s")

    def _say(self, kind: str, line: str) -> None:
        """Where there is no terminal: a line for each change."""
        if not self._console.is_terminal and kind != self._said:
            self._said = kind
            self._console.print(line, soft_wrap=True)
