"""A name server on loopback that answers, keeps silent or lies, as a test says."""

import asyncio
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Records = Mapping[str, Sequence[str]]


class NameServer(asyncio.DatagramProtocol):
    """Knows the addresses of `records`; a name that begins with `silent` gets no answer, and one that begins with
    `failing` SERVFAIL. `asked` counts the questions by name. `lies`: names and addresses that are told before each
    answer, under an id that nobody asked with."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.asked: Counter[str] = Counter()
        self.lies: list[tuple[str, str]] = []
        self.port = 0
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, ("127.0.0.1", 0))
        self.port = self._transport.get_extra_info("sockname")[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._transport is not None
        self._transport.close()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        question = dns.message.from_wire(data)
        name = question.question[0].name.to_text(omit_final_dot=True).lower()
        self.asked[name] += 1
        for other, address in self.lies:
            lie = dns.message.make_response(question)
            lie.id ^= 1
            lie.answer.append(dns.rrset.from_text(other, 60, "IN", "A", address))
            self._transport.sendto(lie.to_wire(), addr)
        if not name.startswith("silent"):
            self._transport.sendto(self._answer(question, name).to_wire(), addr)

    def _answer(self, question: dns.message.Message, name: str) -> dns.message.Message:
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        kind = question.question[0].rdtype
        if name.startswith("failing"):
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif name not in self.records:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        else:
            family = {dns.rdatatype.A: socket.AF_INET, dns.rdatatype.AAAA: socket.AF_INET6}.get(kind)
            own = [each for each in self.records[name] if (":" in each) == (family == socket.AF_INET6)]
            if own:
                answer.answer.append(dns.rrset.from_text_list(name + ".", 60, "IN", dns.rdatatype.to_text(kind), own))
        return answer
