"""Pulling the plug, as a release gate: `python -m chaos`. What is proved by it: docs/guarantees.md.

A *scenario* (`crashes`, `brokers`, `surroundings`, `providers`) does one thing to running roles that ought not to
happen; a *run* gives it an installation, callers that never give up (`load`) and a far side that counts. Afterwards
what was accepted is compared with what arrived and with what the log tells (`witness`): that is the *account*, and
judging it is pure. Faults that cannot be made from outside a process are wired in by `entry`, which stands in for the
`pabal` command. Nothing here is known to the product.
"""
