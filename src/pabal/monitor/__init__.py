"""Where every consumer group stands on the log, sampled and judged. A library: `pabal lag` runs it, no role does yet.

A *sampler* (`sampling.py`) asks the log in bulk what each group has committed, where each partition ends and which
member owns it, and reads the oldest record that waits. The *windows* (`windows.py`) keep the last thirty seconds;
`pabal.lag` turns a window into a verdict.

A sample that the log does not answer raises, and the windows stay as they were. Nothing here changes the log.
"""
