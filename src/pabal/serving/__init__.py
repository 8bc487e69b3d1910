"""HTTP towards us: what every page and API of Pabal is served with.

Uvicorn with httptools bounds nothing that comes before a request is complete: neither a head's bytes or fields, nor the
time it takes, nor how many connections wait without a word. So there is a protocol of our own on top of it.

* `limits`      the bounds, and how many connections a process may hold (pure, but for asking the system)
* `refusal`     what is answered when a bound is met: a whole answer as bytes (pure)
* `connection`  one connection: counts bytes before they are parsed, and fields; says when it is overdue
* `server`      serves, and looks for overdue connections twice a second

A refusal is the last answer on its connection, after the answers that are still owed. The connection then only reads
for a moment: closing with bytes unread would take the answer back (RST).
"""
