"""The machine: modes of files, the limit of open descriptors, free disk space."""

import os
import re
import resource
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from pabal.doctor.finding import Finding, fail, ok, warn

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_BESIDE: Final = ("", "-wal", "-shm")

_INLINE_SECRET: Final = re.compile(r"whsec_|(password|secret)\S*\s*=\s*\"(?!env:|file:)")

OWN_DESCRIPTORS: Final = 500
"""Descriptors that a process needs besides its calls: for files, connections to the log, callers of the API."""

_FAIL_BYTES, _WARN_BYTES = 256 << 20, 2 << 30


def check_files(files: Iterable[Path], *, folder: Path) -> list[Finding]:
    """Check that only this user can read the files with addresses and secrets, and that this user can write them."""
    findings = []
    paths = [folder, *(path.with_name(path.name + end) for path in files for end in _BESIDE)]
    existing = [path for path in dict.fromkeys(paths) if path.exists()]
    for path in existing:
        mode = path.stat().st_mode
        if mode & _OTHERS:
            right = 0o700 if path.is_dir() else 0o600
            text = f"{path} can be read by others ({stat.S_IMODE(mode):04o}); run: chmod {right:o} {path}"
            findings.append(warn("files", text))
        if not os.access(path, os.R_OK | os.W_OK):
            findings.append(fail("files", f"{path} cannot be read and written by this user ({_user()})"))
    return findings or [ok("files", f"{folder}: for this user alone" if existing else f"{folder}: not there yet")]


def check_configuration_file(path: Path) -> list[Finding]:
    """Warn when other users can read a configuration that holds secrets."""
    if path.stat().st_mode & _OTHERS and _INLINE_SECRET.search(path.read_text(encoding="utf-8")):
        text = f"{path} holds secrets and can be read by others; run: chmod 600 {path}, or use env: and file:"
        return [warn("files", text)]
    return []


def check_descriptors(*, calls: int) -> Finding:
    """Check that a process may open enough descriptors. `calls`: how many provider calls may be under way at once."""
    wanted = calls + OWN_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return ok("descriptors", f"{'any number' if soft == resource.RLIM_INFINITY else soft} may be open")
    text = f"only {soft} may be open, {wanted} are wanted ({calls} calls at once, {OWN_DESCRIPTORS} for the rest)"
    return warn(
        "descriptors", f"{text}; raise it: ulimit -n {wanted}, or LimitNOFILE={wanted} in the unit (hard {hard})"
    )


def check_disk(folder: Path) -> Finding:
    """Check the free space for the data folder. The folder need not exist yet."""
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
    free = shutil.disk_usage(place).free
    text = f"{free / (1 << 30):.1f} GiB free for {folder}"
    if free < _FAIL_BYTES:
        return fail("disk", f"{text}; make room, a full disk takes no notification")
    return warn("disk", f"{text}; make room soon") if free < _WARN_BYTES else ok("disk", text)


def _user() -> str:
    return f"uid {os.getuid()}"
