"""Attacks on a running Pabal, from outside: floods, half-said requests, damaged bodies, hostile endpoints.

Every attack is a coroutine over a `Target`, bounded in count and in time, and sends to loopback alone. `tests/attack`
runs each in a small size, `make attack` in full, `python -m bench stalls` prints what each cost.
"""
