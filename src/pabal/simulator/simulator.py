"""The simulator itself: its listeners, and what tests and the command line use."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Self

from pabal.simulator.behaviour import HttpBehaviour, Phase, Schedule, SmtpBehaviour
from pabal.simulator.control import ControlCalls
from pabal.simulator.http import HttpConnection, is_half_open
from pabal.simulator.listener import Listener
from pabal.simulator.receipts import ReceiptOrder, Reported, make_callbacks, post_callbacks
from pabal.simulator.script import Script
from pabal.simulator.smtp import LINE_LIMIT, SmtpConversation
from pabal.simulator.tally import Counts, Received, Tally


class Simulator:
    """A provider to rehearse against: real HTTP and SMTP, with faults on demand, counting what it receives.

    Lives in one event loop; start it with `Simulator.start`. `url` and `smtp_port` stay the same while the
    listeners are refused and opened again. `control_url` answers whatever the behaviour.
    """

    def __init__(
        self, *, host: str, ports: tuple[int, int, int], random: Random, tally: Tally, now_ns: Callable[[], int]
    ) -> None:
        self._host = host
        self._tally = tally
        self._now_ns = now_ns
        self._script = Script(random=random, on_phase=self._apply)
        self._control = ControlCalls(script=self._script, tally=tally, enter=self._enter, report=self.report)
        self._http = Listener(ports[0], open=self._open_http)
        self._smtp = Listener(ports[1], open=self._open_smtp)
        self._control_listener = Listener(ports[2], open=self._open_control)
        self._http_connections: set[HttpConnection] = set()
        self._control_connections: set[HttpConnection] = set()
        self._smtp_writers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._smtp_thawed = asyncio.Event()
        self._opening: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(
        cls,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        smtp_port: int = 0,
        control_port: int = 0,
        schedule: Schedule | None = None,
        keep: int = 100,
        random: Random | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> Self:
        """Listen (port 0: any free one) and begin the schedule. `keep` last requests are kept whole.

        Raises:
            OSError: a port is taken.
        """
        simulator = cls(
            host=host,
            ports=(port, smtp_port, control_port),
            random=random or Random(),
            tally=Tally(now_ns=now_ns, keep=keep),
            now_ns=now_ns,
        )
        try:
            for listener in (simulator._http, simulator._smtp, simulator._control_listener):
                await listener.open()
            await simulator.follow(schedule or Schedule())
        except BaseException:
            await simulator.close()
            raise
        return simulator

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    @property
    def url(self) -> str:
        """Where webhooks are posted; any path is accepted."""
        return f"http://{self._host}:{self._http.port}"

    @property
    def port(self) -> int:
        """The port of `url`."""
        return self._http.port

    @property
    def smtp_port(self) -> int:
        """Where mail is handed in, on the same host."""
        return self._smtp.port

    @property
    def control_url(self) -> str:
        """Where the control calls are always answered (below `/_control`)."""
        return f"http://{self._host}:{self._control_listener.port}"

    @property
    def phase(self) -> Phase:
        """What is in force."""
        return self._script.phase

    @property
    def received(self) -> int:
        """How many requests and messages were received whole; cheaper than `counts`."""
        return self._tally.received

    def counts(self, *, by_key: bool = True) -> Counts:
        """What was received so far; `by_key=False` leaves the (perhaps large) counts by key out."""
        return self._tally.counts(by_key=by_key)

    def arrivals(self) -> dict[str, tuple[int, ...]]:
        """Per idempotency key its arrivals in nanoseconds since the Unix epoch, in order."""
        return self._tally.arrivals()

    def requests(self) -> list[Received]:
        """The last requests and messages, whole, oldest first."""
        return self._tally.kept()

    def forget(self) -> None:
        """Begin all counts anew."""
        self._tally.forget()

    async def behave(self, *behaviours: HttpBehaviour | SmtpBehaviour) -> None:
        """Answer like this from now on; the first that matches a request decides. None: accept everything.

        Ends a schedule under way. Returns once listeners are closed or open as told.
        """
        await self._enter(
            Phase(
                http=tuple(each for each in behaviours if isinstance(each, HttpBehaviour)),
                smtp=tuple(each for each in behaviours if isinstance(each, SmtpBehaviour)),
            )
        )

    async def follow(self, schedule: Schedule) -> None:
        """Begin this schedule."""
        await self._enter(schedule)

    async def report(self, order: ReceiptOrder) -> Reported:
        """Post receipts about mail that was kept, as a relay does later; returns once all were answered."""
        now = datetime.fromtimestamp(self._now_ns() / 1e9, UTC)
        return await post_callbacks(make_callbacks(self._tally.kept(), order), order, now=now)

    async def close(self) -> None:
        """Stop listening and cut every connection; idempotent."""
        self._script.stop()
        for task in self._opening:
            task.cancel()
        for listener in (self._http, self._smtp, self._control_listener):
            listener.close()
        connections = (*self._http_connections, *self._control_connections)
        for connection in connections:
            connection.abort()
        self._cut_smtp()
        await asyncio.gather(*(connection.gone.wait() for connection in connections))
        await asyncio.gather(*self._smtp_writers, return_exceptions=True)

    # Phases

    async def _enter(self, what: Phase | Schedule) -> None:
        if isinstance(what, Phase):
            self._script.set(what)
        else:
            self._script.follow(what.phase)
        await asyncio.gather(*self._opening)

    def _apply(self, phase: Phase) -> None:
        """Bring listeners and open connections to what this phase asks for."""
        for connection in self._http_connections:
            if is_half_open(self._script):
                connection.freeze()
            else:
                connection.thaw()
        if any(behaviour.answer == "half_open" for behaviour in phase.smtp):
            self._smtp_thawed.clear()
        else:
            self._smtp_thawed.set()
        self._listen(self._http, refuse=any(behaviour.answer == "refuse" for behaviour in phase.http))
        self._listen(self._smtp, refuse=any(behaviour.answer == "refuse" for behaviour in phase.smtp))

    def _listen(self, listener: Listener, *, refuse: bool) -> None:
        if not refuse:
            task = asyncio.get_running_loop().create_task(listener.open())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
            return
        listener.close()
        if listener is self._http:
            for connection in self._http_connections:
                connection.cut()
        else:
            self._cut_smtp()

    def _cut_smtp(self) -> None:
        for task, writer in self._smtp_writers.items():
            writer.transport.abort()
            task.cancel()

    # Listeners

    async def _open_http(self, port: int) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: HttpConnection(
                script=self._script, tally=self._tally, control=self._control, connections=self._http_connections
            ),
            self._host,
            port,
            backlog=1024,
        )

    async def _open_control(self, port: int) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: HttpConnection(
                script=None, tally=self._tally, control=self._control, connections=self._control_connections
            ),
            self._host,
            port,
        )

    async def _open_smtp(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._converse, self._host, port, limit=LINE_LIMIT, backlog=1024)

    def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = SmtpConversation(
            reader, writer, script=self._script, tally=self._tally, thawed=self._smtp_thawed
        )
        task = asyncio.get_running_loop().create_task(conversation.run())
        self._smtp_writers[task] = writer
        task.add_done_callback(lambda done: self._smtp_writers.pop(done).close())
