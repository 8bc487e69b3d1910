"""The SMTP side: one conversation per connection (RFC 5321), step by step as the script says.

Speaks plain SMTP with AUTH (any credentials), 8BITMIME, SMTPUTF8, SIZE and PIPELINING; no TLS.
"""

import asyncio
from collections.abc import Awaitable, Callable
from email.parser import BytesHeaderParser

from pabal.simulator.behaviour import SmtpBehaviour, Stage
from pabal.simulator.http import reset
from pabal.simulator.receipts import queue_id
from pabal.simulator.received import ReceivedRequests
from pabal.simulator.script import Script

LINE_LIMIT = 1 << 20
_SIZE_LIMIT = 32 << 20
_CLOSING = 421  # RFC 5321 §3.8: the server says this and closes the channel


class _Over(Exception):
    """The conversation ends here."""


class SmtpConversation:
    """One client's connection. `thawed` is cleared while the provider is half-open: then nothing is read or said."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        script: Script,
        received: ReceivedRequests,
        thawed: asyncio.Event,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._script = script
        self._received = received
        self._thawed = thawed
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._commands: dict[str, Callable[[str], Awaitable[None]]] = {
            "HELO": self._hello,
            "EHLO": self._hello,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": self._noop,
            "QUIT": self._quit,
        }

    async def run(self) -> None:
        """Converse until either side ends it."""
        try:
            await self._thawed.wait()
            if not await self._passes("connect", "220 simulator.localhost ESMTP"):
                return
            while line := await self._line():
                verb, _, argument = line.partition(" ")
                command = self._commands.get(verb.upper())
                if command is None:
                    self._say(f"502 {verb[:20]!r} is not known here")
                else:
                    await command(argument.strip())
                await self._writer.drain()
        except (_Over, ConnectionError, ValueError):
            # The script or the client ended it, or a line was too long to be SMTP (what `readline` raises).
            return

    # Commands

    async def _hello(self, argument: str) -> None:
        await self._rset_state()
        lines = ["simulator.localhost greets " + argument, "PIPELINING", "8BITMIME", "SMTPUTF8", "AUTH PLAIN LOGIN"]
        reply = "\r\n".join([*(f"250-{line}" for line in lines), f"250 SIZE {_SIZE_LIMIT}"])
        await self._passes("hello", reply)

    async def _auth(self, argument: str) -> None:
        mechanism, _, initial = argument.partition(" ")
        answers = {"PLAIN": 1, "LOGIN": 2}.get(mechanism.upper())
        if answers is None:
            self._say("504 PLAIN or LOGIN")
            return
        for _ in range(answers - bool(initial)):
            self._say("334 ")
            await self._line()
        await self._passes("auth", "235 welcome")

    async def _mail(self, argument: str) -> None:
        if await self._passes("mail", "250 OK"):
            await self._rset_state()
            self._sender = _mailbox(argument)

    async def _rcpt(self, argument: str) -> None:
        if self._sender is None:
            self._say("503 MAIL first")
            return
        recipient = _mailbox(argument)
        if await self._passes("rcpt", "250 OK", [recipient]):
            self._recipients.append(recipient)

    async def _data(self, argument: str) -> None:
        del argument
        if not self._recipients:
            self._say("503 RCPT first")
            return
        if not await self._passes("data", "354 end with a dot", self._recipients):
            return
        message = await self._message()
        headers = BytesHeaderParser().parsebytes(message)
        named = [(name.encode(), str(value).encode("utf-8", "surrogateescape")) for name, value in headers.items()]
        key = headers["Message-ID"]
        behaviour = self._script.smtp("message", self._recipients)
        self._received.request(
            str(key).strip().strip("<>").encode() if key is not None else None,
            answer=f"smtp {_word(behaviour, accepted='250')}",
            path=",".join(self._recipients),
            headers=named,
            body=message,
        )
        self._script.count_request()
        await self._rset_state()
        await self._act(behaviour, f"250 2.0.0 OK: queued as {queue_id(str(key or ''))}")

    async def _rset(self, argument: str) -> None:
        del argument
        await self._rset_state()
        self._say("250 OK")

    async def _noop(self, argument: str) -> None:
        del argument
        self._say("250 OK")

    async def _quit(self, argument: str) -> None:
        del argument
        self._say("221 bye")
        raise _Over

    # Steps

    async def _passes(self, stage: Stage, accepted: str, recipients: list[str] | None = None) -> bool:
        """Reply as the script says; whether the conversation got past this stage."""
        behaviour = self._script.smtp(stage, recipients or ())
        if behaviour is not None and (behaviour.answer != "respond" or behaviour.code is not None):
            self._received.answer(f"smtp {stage} {_word(behaviour, accepted='')}")
        return await self._act(behaviour, accepted)

    async def _act(self, behaviour: SmtpBehaviour | None, accepted: str) -> bool:
        if behaviour is None:
            self._say(accepted)
            return True
        if behaviour.latency_seconds:
            await self._writer.drain()
            await asyncio.sleep(behaviour.latency_seconds)
        match behaviour.answer:
            case "reset":
                reset(self._writer.transport)
                raise _Over
            case "hang":
                while await self._reader.read(65536):
                    """Whatever the client still says is read and left unanswered until it gives up."""
                raise _Over
        if behaviour.code is None:
            self._say(accepted)
            return True
        self._say(f"{behaviour.code} {behaviour.text or 'as the simulator was told'}")
        if behaviour.code == _CLOSING:
            raise _Over
        return False

    async def _line(self) -> str:
        line = await self._reader.readline()
        await self._thawed.wait()
        if not line:
            raise _Over
        return line.decode("utf-8", "surrogateescape").rstrip("\r\n") or "(empty)"

    async def _message(self) -> bytes:
        """Everything up to the final dot, without the dots that transparency added (RFC 5321 §4.5.2)."""
        await self._writer.drain()
        lines = []
        while (line := await self._reader.readline()) != b".\r\n":
            if not line:
                raise _Over
            lines.append(line[1:] if line.startswith(b".") else line)
        await self._thawed.wait()
        return b"".join(lines)

    async def _rset_state(self) -> None:
        self._sender = None
        self._recipients = []

    def _say(self, reply: str) -> None:
        self._writer.write(reply.encode("utf-8", "surrogateescape") + b"\r\n")


def _word(behaviour: SmtpBehaviour | None, *, accepted: str) -> str:
    if behaviour is None:
        return accepted
    if behaviour.answer != "respond":
        return behaviour.answer
    return accepted if behaviour.code is None else str(behaviour.code)


def _mailbox(argument: str) -> str:
    """What stands between the angle brackets of MAIL FROM:<…> or RCPT TO:<…>."""
    return argument.partition("<")[2].partition(">")[0]
