"""`pabal.ops`: the small state that all roles share, and how a process follows it.

Overview. `pabal.ops` is a compacted topic of one partition: under each key stands one word that roles obey, put there
by a role or by a person. `follower.py` reads it once a second for a whole process and hands the records to *folds*, by
the prefix of their keys. A fold is pure: it takes records in log order and says what holds now.

    key                          fold                           who writes it
    brake/<channel>/<class>      brakes.py                      a worker or recorder brakes, a person releases
    recovery/<channel>/<callee>  recoveries.py                  a worker whose callee answers again
    ledger/id                    ledger_identity.py             the first worker, or a person who adopts another
    template/<hash>              (template_library.py)          the api, before it accepts anything
    redrive/<topic>/<tenant>     pabal.dlq.redrive.claim        a redrive, while it runs
    seek/…, passed-over/…        pabal.offsets                  a person; a worker that looks back

Which word holds. Under most keys the last word that can be read holds: such a fold is a `LastWins` (`fold.py`), and
is given a mapping of last values. Of the ledger's identity and of redrives' claims the *first* holds, by the order and
the times of the records: these folds see every record. Compaction may hand a fold a record that it has taken before;
every fold bears that.

Edges. `brake_release.py` is a person's release of a brake. `recovery_clearing.py` takes old recoveries back.
`ledger_binding.py` checks a ledger against the log at each start. `template_library.py` reads the topic by itself, when
a template is asked for that it does not know: templates are many, and most processes need none. The host of redrives
(`pabal.dlq`) reads claims by itself as well, because it has to read them before the facts in `pabal.audit`.

A new fold is one module here, its registration (`OpsFollower.attend`) in the role that obeys it, its row above, and
its name in the contract "Folds of pabal.ops do not know each other" (pyproject.toml).
"""
