"""Metrics: one table says which there are, a meter counts them, and others expose what was counted.

`table.py` is the only place that names a metric: the exposition, the page docs/metrics.md, the Grafana dashboard and
the types are made from it. `meter.py` counts with plain numbers, handed down like `pabal.tracing`: there is no global
registry, and where no meter is given nothing is paid. `prometheus.py` alone knows the client library.
"""
