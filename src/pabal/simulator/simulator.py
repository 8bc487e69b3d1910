"""The simulator itself: its listeners, and what tests and the command line use."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Self

from pabal.simulator.behaviour import HttpBehaviour, Phase, Schedule, SmtpBehaviour
from pabal.simulator.control import ControlCalls
from pabal.simulator.receipts import PostedReceipts, ReceiptOrder, make_callbacks, post_callbacks
from pabal.simulator.received import Counts, Received, ReceivedRequests
from pabal.simulator.script import Script
from pabal.simulator.sides import HttpSide, SmtpSide


class Simulator:
    """A provider to rehearse against: real HTTP and SMTP, with faults on demand, counting what it receives.

    Lives in one event loop; start it with `Simulator.start`. `url` and `smtp_port` stay the same while the
    listeners are refused and opened again. `control_url` answers whatever the behaviour.
    """

    def __init__(
        self,
        *,
        host: str,
        ports: tuple[int, int, int],
        random: Random,
        received: ReceivedRequests,
        now_ns: Callable[[], int],
    ) -> None:
        self._host = host
        self._received = received
        self._now_ns = now_ns
        self._script = Script(random=random, on_phase=self._apply)
        self._control = ControlCalls(script=self._script, received=received, enter=self._enter, report=self.report)
        self._http = HttpSide(host=host, port=ports[0], script=self._script, received=received, control=self._control)
        self._smtp = SmtpSide(host=host, port=ports[1], script=self._script, received=received)
        self._control_side = HttpSide(host=host, port=ports[2], script=None, received=received, control=self._control)

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
            received=ReceivedRequests(now_ns=now_ns, keep=keep),
            now_ns=now_ns,
        )
        try:
            for side in (simulator._http, simulator._smtp, simulator._control_side):
                await side.socket.open()
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
        return f"http://{self._host}:{self._http.socket.port}"

    @property
    def port(self) -> int:
        """The port of `url`."""
        return self._http.socket.port

    @property
    def smtp_port(self) -> int:
        """Where mail is handed in, on the same host."""
        return self._smtp.socket.port

    @property
    def control_url(self) -> str:
        """Where the control calls are always answered (below `/_control`)."""
        return f"http://{self._host}:{self._control_side.socket.port}"

    @property
    def phase(self) -> Phase:
        """What is in force."""
        return self._script.phase

    @property
    def received(self) -> int:
        """How many requests and messages were received whole; cheaper than `counts`."""
        return self._received.received

    def counts(self, *, by_key: bool = True) -> Counts:
        """What was received so far; `by_key=False` leaves the (perhaps large) counts by key out."""
        return self._received.counts(by_key=by_key)

    def arrivals(self) -> dict[str, tuple[int, ...]]:
        """Per idempotency key its arrivals in nanoseconds since the Unix epoch, in order."""
        return self._received.times()

    def requests(self) -> list[Received]:
        """The last requests and messages, whole, oldest first."""
        return self._received.kept()

    def forget(self) -> None:
        """Begin all counts anew."""
        self._received.forget()

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

    async def report(self, order: ReceiptOrder) -> PostedReceipts:
        """Post receipts about mail that was kept, as a relay does later; returns once all were answered."""
        now = datetime.fromtimestamp(self._now_ns() / 1e9, UTC)
        return await post_callbacks(make_callbacks(self._received.kept(), order), order, now=now)

    async def close(self) -> None:
        """Stop listening and cut every connection; idempotent."""
        self._script.stop()
        await asyncio.gather(*(side.close() for side in (self._http, self._smtp, self._control_side)))

    async def _enter(self, what: Phase | Schedule) -> None:
        if isinstance(what, Phase):
            self._script.set(what)
        else:
            self._script.follow(what.phase)
        await asyncio.gather(self._http.socket.opened(), self._smtp.socket.opened())

    def _apply(self, phase: Phase) -> None:
        """Bring both sides to what this phase asks for."""
        self._http.apply(phase.http)
        self._smtp.apply(phase.smtp)
