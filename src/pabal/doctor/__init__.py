"""The checks of `pabal doctor`.

A check is a function that returns findings. The command (`cli/doctor.py`) opens the log, the databases and the
providers, and runs the checks. A check changes nothing: it opens files for reading only, asks Kafka for descriptions,
asks PostgreSQL in a read-only transaction, and greets a provider without sending anything.

`finding` what a check says · `log` topics, the log's ledger, its newest record · `databases` ledger and store ·
`machine` files, descriptors, disk · `clock` this machine's time against others'
"""
