"""What each process tells of itself: which roles run where, what they obey, what they hold, and when one fell silent.

Every process appends a *status* to `pabal.status` every ten seconds, at once when something changes that an operator
would ask about, and a last one when it stops (`reporter.py`). The monitor appends its *lag samples* there too, so that
another monitor goes on with the same sample window (`records.py` has both). What the statuses add
up to is the *fleet* (`pabal.monitor.fleet`).

A status is a hint. Nothing is sent, held or released because of one.
"""
