"""The Makefile installs the lock as it stands, whatever the registry holds by then.

A made-up project with our Makefile is installed out of an index on loopback in which a package has a newer release
than the lock names. Its lock has what trips an installer that resolves: a package required with an extra.
"""

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from tests.packaging import wheels
from tests.packaging.index import Index, digest
from tests.packaging.wheels import write_wheel

ROOT = Path(__file__).parents[2]
PYPROJECT = """\
[build-system]
requires = []
build-backend = "wheels"
backend-path = ["."]
"""
NAMES = {"base", "engine", "side", "top"}

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]


class Project(msgspec.Struct, frozen=True):
    """A made-up project, and the index that it is installed from."""

    folder: Path
    index: Index

    def lock(self, *lines: str) -> None:
        """Write both locks: `name==version` of wheels in the index, with or without extras."""
        pinned = []
        for line in lines:
            name, _, version = line.partition("==")
            wheel = self.index.folder / f"{name.partition('[')[0]}-{version}-py3-none-any.whl"
            pinned.append(f"{line} --hash=sha256:{digest(wheel)}\n")
        for name in ("runtime", "dev"):
            (self.folder / "requirements" / f"{name}.txt").write_text("".join(pinned))

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the project, with the index as the only place that pip knows."""
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("PIP_", "MAKE", "MFLAGS", "VENV", "PYTHON"))
        }
        environment |= {"PIP_INDEX_URL": self.index.url, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=90)


@pytest.fixture(scope="session")
def pips(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """pip 23.2.1, which Python 3.11.7 comes with, and the newest there is."""
    folder = tmp_path_factory.mktemp("pips")
    found = {}
    for name, requirement in (("23.2.1", "pip==23.2.1"), ("newest", "pip")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder / name)]
        done = subprocess.run([*command, requirement], capture_output=True, text=True, timeout=100)
        if done.returncode != 0:
            if os.environ.get("CI") == "true":
                pytest.fail(f"no pip to install with: {done.stderr}")
            pytest.skip(f"no pip to install with: {done.stderr}")
        [found[name]] = (folder / name).glob("pip-*.whl")
    return found


@pytest.fixture(params=["23.2.1", "newest"])
def project(request: pytest.FixtureRequest, pips: Mapping[str, Path], tmp_path: Path) -> Iterator[Project]:
    """A project in an environment of that pip. The index: `top` 1.0 requires `base[fast]` and `side`, and `base` 1.1 is
    newer than the 1.0 that the lock names."""
    folder, wheelhouse = tmp_path / "project", tmp_path / "wheels"
    wheelhouse.mkdir()
    write_wheel(wheelhouse, "top", "1.0", requires=["base[fast]>=1.0", "side"])
    write_wheel(wheelhouse, "base", "1.0", extras={"fast": "engine>=1.0"})
    write_wheel(wheelhouse, "base", "1.1", extras={"fast": "engine>=1.0"})
    write_wheel(wheelhouse, "engine", "1.0")
    write_wheel(wheelhouse, "side", "1.0")
    (folder / "requirements").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PYPROJECT + '[project]\nname = "made-up"\nversion = "0.1"\n')
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copy(wheels.__file__, folder)
    venv.create(folder / ".venv", with_pip=False)
    wheel = pips[request.param]
    command = [str(folder / ".venv/bin/python"), str(wheel / "pip"), "install", "--quiet", "--no-index", str(wheel)]
    subprocess.run(command, check=True, timeout=60)
    with Index.serving(wheelhouse) as index:
        yield Project(folder, index)


def test_a_newer_release_is_not_even_looked_at(project: Project) -> None:
    # Without the extra, as our lock once was: what resolves asks for `base[fast]`, finds 1.1, and has no hash for it.
    project.lock("base==1.0", "engine==1.0", "side==1.0", "top==1.0")

    done = project.run("make", "install")

    assert done.returncode == 0, done.stdout + done.stderr
    assert project.index.files == {f"{name}-1.0-py3-none-any.whl" for name in NAMES}
    assert project.index.pages == NAMES


def test_what_the_lock_lacks_is_said_and_not_fetched(project: Project) -> None:
    project.lock("base[fast]==1.0", "engine==1.0", "top==1.0")

    done = project.run("make", "install")

    assert done.returncode != 0
    assert "requires side, which is not installed" in done.stdout + done.stderr
    assert "side" not in project.index.pages


def test_an_installation_that_resolves_ends_or_fetches_what_no_lock_names(project: Project) -> None:
    """The former way: the proof that this index would trip it."""
    project.lock("base==1.0", "side==1.0", "top==1.0")

    done = project.run(".venv/bin/python", "-m", "pip", "install", "--require-hashes", "-r", "requirements/runtime.txt")

    assert done.returncode != 0
    assert "must have their versions pinned" in done.stderr or "engine" in project.index.pages
