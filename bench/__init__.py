"""Every figure Pabal claims, measured anew by `python -m bench`; what is measured and how: docs/benchmarks.md.

`load` (the generator), `processes` and `cpu` (what runs, and what it uses), `far_side` (the simulator), `kafka`
(the broker), `pabal_system` and `sketches` (the systems compared), `measures` (one function per figure), `table`.
The reference programs are `sketch_kafka.py` and `sketch_embedded.py`.
"""
