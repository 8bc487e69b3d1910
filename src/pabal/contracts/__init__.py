"""What others may rely on: every record's JSON Schema, the topics as AsyncAPI, and whether a change breaks either.

Overview. `records.py` lists the records, `topics.py` where they stand, with which keys and headers: the only place
that says in words what `codec.py` does in code, and `tests/contracts` holds the two together with real records.
`schemas.py` makes JSON Schemas from the types that really encode, `asyncapi.py` the document. The files under
`contracts/` are written by `make contracts`, committed, and tested to be what the code says.

Compatibility. A record lives for days (suppressions and templates for ever), roles are upgraded one by one, and others
read our topics with what they learnt from a release. So new readers must read old records, and old readers new ones:
`compatibility.py` says where a schema no longer allows that, against every release frozen under `contracts/released/`.
What must change in another way gets a new major version (`delivery/2`) beside the old.
"""
