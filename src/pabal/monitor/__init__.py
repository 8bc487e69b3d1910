"""The monitor: looks at the log every two seconds, and says how each consumer group stands.

Overview. A *sampler* (`sampling.py`) asks the log in bulk what each group has committed, where each partition ends and
which member owns it, and reads the oldest record that waits. The *windows* (`windows.py`) keep the last thirty seconds;
`pabal.lag` turns a window into a verdict. What a worker, a delay line or a recorder tells of itself in `pabal.status`
says why a partition is held and whether its calls end.

State. Nothing but the window, which the active monitor appends to `pabal.status`: another monitor that takes over goes
on with it.

Failure. A sample that the log does not answer is left out; the figures keep the time of the last one, so that an alarm
can tell old figures from good ones. The monitor judges others and stops nothing.
"""
