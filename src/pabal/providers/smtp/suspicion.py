"""When refusals that seem to be about recipients are our fault after all, or the server's. Pure."""

from typing import Final

from pabal.evidence import Evidence
from pabal.outcome import Accepted, Outcome
from pabal.providers.smtp.reply import Reply, concern_of, to_outcome

DOMAINS: Final = 3
"""So many recipients' domains must have refused, with no acceptance between. One domain's rules are its own, and two
domains may belong to one company."""


class Suspicion:
    """What the recipients' domains of one server refused since it accepted a message the last time."""

    def __init__(self) -> None:
        self._us = Evidence(enough=DOMAINS)
        self._server = Evidence(enough=DOMAINS)

    def judge(self, reply: Reply, *, server: str, recipient: str) -> Outcome:
        """What became of a delivery (see `to_outcome`), in the light of what was refused before."""
        outcome = to_outcome(reply, server=server, recipient=recipient)
        if isinstance(outcome, Accepted):
            self._us.accepted()
            self._server.accepted()
            return outcome
        domain = recipient.rpartition("@")[2].lower()
        match concern_of(reply, recipient=recipient):
            case "us_perhaps":
                is_believed = self._us.refused(domain)
            case "recipient" if reply.code < 500:
                is_believed = self._server.refused(domain)
            case _:
                return outcome
        return to_outcome(reply, server=server, recipient=recipient, is_believed=is_believed)
