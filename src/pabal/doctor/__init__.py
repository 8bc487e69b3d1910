"""What `pabal doctor` looks at, and what it says of it.

A check is a function that returns findings; the command (`cli/doctor.py`) opens what is to be looked at and puts the
checks together. Nothing here changes anything: files are opened for reading alone, Kafka is asked for descriptions,
PostgreSQL in a transaction that may only read, a provider is greeted and handed nothing.

`finding` what a check says · `log` topics, the log's ledger, its newest record · `databases` ledger and store ·
`machine` files, descriptors, disk · `clock` this machine's time against others'
"""
