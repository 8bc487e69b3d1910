"""Every line of our locks is whole: nothing that an installed package needs is missing, no extra was stripped.

`pip check`, which ends each installation, looks at no extras.
"""

from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).parents[2] / "requirements"


@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_everything_a_lock_names_is_there_with_all_that_it_needs(name: str) -> None:
    lock = locked(REQUIREMENTS / f"{name}.txt")

    assert list(missing(lock)) == []


@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_every_line_has_a_hash(name: str) -> None:
    lines = logical_lines(REQUIREMENTS / f"{name}.txt")

    assert [line for line in lines if "--hash=sha256:" not in line] == []


@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_a_lock_has_every_extra_that_users_may_leave_out(name: str) -> None:
    pabal = {"pabal": Requirement("pabal[all]"), **locked(REQUIREMENTS / f"{name}.txt")}
    without = {key: line for key, line in pabal.items() if key != "aiosmtpd"}

    assert list(missing(pabal)) == []
    assert [problem for problem in missing(without) if problem.startswith("pabal needs aiosmtpd")] != []


def test_a_stripped_extra_is_found() -> None:
    lock = dict(locked(REQUIREMENTS / "runtime.txt"))
    lock["opentelemetry-exporter-http-transport"] = Requirement("opentelemetry-exporter-http-transport==1")

    assert any("[requests]" in problem for problem in missing(lock))


def test_a_missing_line_is_found() -> None:
    lock = dict(locked(REQUIREMENTS / "runtime.txt"))
    del lock["markupsafe"]

    assert any("jinja2 needs MarkupSafe" in problem for problem in missing(lock))


def logical_lines(path: Path) -> list[str]:
    """The requirements of a lock, each in one line."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def locked(path: Path) -> Mapping[str, Requirement]:
    """What a lock names for this machine, by canonical name."""
    wanted = [Requirement(line.partition(" --hash")[0]) for line in logical_lines(path)]
    return {canonicalize_name(each.name): each for each in wanted if each.marker is None or each.marker.evaluate()}


def missing(lock: Mapping[str, Requirement]) -> Iterator[str]:
    """What the packages of a lock need and the lock does not give; of packages as they are installed here."""
    for name, line in lock.items():
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            if needed.marker is not None and not any(
                needed.marker.evaluate({"extra": extra}) for extra in ("", *line.extras)
            ):
                continue
            found = lock.get(canonicalize_name(needed.name))
            if found is None or not needed.extras <= found.extras:
                yield f"{name} needs {needed}, the lock has {found}"
