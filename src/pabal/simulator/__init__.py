"""A provider to rehearse against: real HTTP and SMTP on loopback, faults on demand, every arrival counted.

What a test or a drill needs of the far side: it is slow, refuses, throttles, hangs, cuts connections or is gone,
from one moment to the next, for a share of requests or a path; and afterwards it says what arrived, how often and
when, by idempotency key, so that "lost" and "twice" are counted and not guessed.

The parts: `behaviour` (what can be asked, as data), `script` (which behaviour is in force), `tally` (what
arrived), `http` and `smtp` (the two protocols), `receipts` (what it reports later), `control` (calls while it runs),
`simulator` (all of it together).
"""

from pabal.simulator.behaviour import HttpBehaviour, Phase, Schedule, SmtpBehaviour, load_schedule
from pabal.simulator.receipts import ReceiptOrder, Reported
from pabal.simulator.simulator import Simulator
from pabal.simulator.tally import Counts, Received

__all__ = [
    "Counts",
    "HttpBehaviour",
    "Phase",
    "ReceiptOrder",
    "Received",
    "Reported",
    "Schedule",
    "Simulator",
    "SmtpBehaviour",
    "load_schedule",
]
