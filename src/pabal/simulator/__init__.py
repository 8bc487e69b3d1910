"""A provider to rehearse against: real HTTP and SMTP on loopback, faults on demand, every arrival counted.

It is what a test or a drill needs of the far side. It can be slow, refuse, throttle, hang, cut connections or be gone,
from one moment to the next, for a share of requests or for a path. Afterwards it says what arrived, how often and when,
by idempotency key: "lost" and "twice" are counted and not guessed.

The parts: `behaviour` (what can be asked, as data), `script` (which behaviour is in force), `received` (what
arrived), `http` and `smtp` (the two protocols), `sides` (a listening socket and its connections), `receipts` (what it
reports later), `control` (calls while it runs), `simulator` (all of it together).
"""

from pabal.simulator.behaviour import HttpBehaviour, Phase, Schedule, SmtpBehaviour, load_schedule
from pabal.simulator.receipts import PostedReceipts, ReceiptOrder
from pabal.simulator.received import Counts, Received
from pabal.simulator.simulator import Simulator

__all__ = [
    "Counts",
    "HttpBehaviour",
    "Phase",
    "PostedReceipts",
    "ReceiptOrder",
    "Received",
    "Schedule",
    "Simulator",
    "SmtpBehaviour",
    "load_schedule",
]
