"""The monitor: where every consumer group stands on the log, who is there, and how it was.

A *sampler* (`sampling.py`) asks the log in bulk what each group has committed, where each partition ends and which
member owns it, and reads the oldest record that waits. The *windows* (`windows.py`) keep the last thirty seconds;
`pabal.lag` turns a window into a verdict. The *fleet* (`fleet.py`) is what the processes tell of themselves in
`pabal.status`: it knows the owner of each partition, why that owner takes nothing, and which role is missing.

`monitor.py` is the role. Of all monitors the owner of the only partition of `pabal.status` is the active one. It
samples every two seconds, keeps its samples in that topic (`sample_log.py`), and appends one minute at a time to
`pabal.history` (`history.py`). A monitor that takes over reads both, so that its window is whole. `exposed.py` shows
the last sample to Prometheus; `watching.py` is all that a monitor knows.

`pabal lag` and `pabal status` read the same topic and judge by the same code, with a monitor or without one. Nothing
here changes what is sent.
"""
