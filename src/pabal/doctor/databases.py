"""Ledger and store: do they exist, do their tables have this version, does the log belong to the ledger? Pure."""

from pabal.database_reading import Looked
from pabal.doctor.finding import Finding, fail, ok, warn
from pabal.ops.ledger_identity import Recorded


def judge_ledger(looked: Looked | None, *, place: str, said: Recorded) -> Finding:
    """The finding about the ledger at `place`.

    `looked`: what was seen of it (None: there is none). `said`: which ledger the log says it belongs to.
    """
    recorded = said.holds
    if recorded is None and said.wrong is not None:
        return fail(
            "ledger",
            f"which one the log belongs to cannot be read ({said.wrong}); workers refuse to start. With the one "
            "that it was sent by: pabal ledger adopt",
        )
    if looked is None and recorded is None:
        return warn("ledger", f"there is none at {place} yet; the first worker makes it")
    if looked is None:
        assert recorded is not None
        return fail(
            "ledger",
            f"there is none at {place}, but the log belongs to ledger {recorded.id}; name that one in the setting "
            "`ledger` (or --data). Only if it is lost for good: pabal ledger adopt",
        )
    if looked.version != looked.expected:
        return fail("ledger", f"{place} has version {looked.version}; this Pabal reads {looked.expected}")
    if recorded is not None and looked.id != recorded.id:
        return fail(
            "ledger",
            f"{place} is ledger {looked.id}, but the log belongs to {recorded.id}; workers refuse to start. Use the "
            "log's own; only if that is lost for good: pabal ledger adopt",
        )
    if recorded is None and looked.has_rows:
        return fail(
            "ledger",
            f"{place} knows deliveries, but the log belongs to no ledger: was the log deleted? Workers refuse to "
            "start. If it is meant to be new: pabal ledger adopt",
        )
    return ok("ledger", f"{place} opens" + ("" if recorded is None else ", and the log belongs to it"))


def judge_store(looked: Looked | None, *, place: str, is_file: bool) -> Finding:
    """The finding about the store at `place`. `looked`: what was seen of it (None: there is none)."""
    if looked is None or looked.version is None:
        how = "the first recorder makes it" if is_file else "run: pabal store migrate"
        return (warn if is_file else fail)("store", f"there is none at {place} yet; {how}")
    if looked.version == looked.expected:
        return ok("store", f"{place} opens, its tables are at {looked.version}")
    text = f"the tables of {place} are at {looked.version}, this Pabal needs {looked.expected}"
    return (
        warn("store", f"{text}; its next start migrates it")
        if is_file
        else fail("store", f"{text}; run: pabal store migrate")
    )
