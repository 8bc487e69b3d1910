"""What a template may do, and how much of it. Pure.

A template is a program of the operator's, run with data of any caller's. Three rules keep it from costing more than it
was given:

* **An allow-list.** Filters, tests, functions and methods that are not named here do not exist (`filters.py`,
  `environment.py`). What a newer Jinja2 adds is not there until it has a price here.
* **A meter.** Whatever can grow or repeat pays *before* it does: a loop for all its rounds, a text for its characters,
  a product, a join, a format for what it will come to. So no single operation is larger than what is left
  (`budget.py`). Loops, comparisons, literals and `~` are no functions that could be wrapped; the compiler's tree is
  rewritten so that each passes one (`rewriting.py`).
* **No folding.** Jinja2 would work out constants while it compiles; here everything waits for a meter.

The meter counts work and not time, so a rendering that was within it at acceptance is within it at each retry, on any
machine. Memory and time are bounded apart from that, in the process that renders what is too much for an event loop
(`pabal.rendering`).
"""
