"""What documents and docstrings name exists: files of the tree, tests, and commands of `pabal`."""

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pabal.cli.main import main

ROOT = Path(__file__).parents[1]
FOLDERS = ("src", "tests", "bench", "chaos", "attack", "examples", "docker", "contracts")

DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")], key=lambda path: path.relative_to(ROOT).as_posix()
)
CODE = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if ".venv" not in path.parts)

A_FILE = re.compile(r"(?<![\w/.:<>*-])((?:[\w.-]+/)+[\w-]+\.py)\b")
"""A path with a folder in it. A bare `name.py` stands for a file beside the one that names it, and is not looked at."""

A_COMMAND = re.compile(r"pabal ([a-z][a-z-]*(?: [a-z][a-z-]*)?)")


def exists(name: str, *, beside: Path) -> bool:
    """Whether a path is one of the tree: from its root, from the package, or from the folder of the file naming it."""
    bases = (ROOT, ROOT / "src", ROOT / "src" / "pabal", beside.parent, *beside.parents[1:3])
    return any((base / name).is_file() for base in bases)


def said_by(path: Path) -> Iterator[tuple[int, str]]:
    """Line by line, what a person reads in a file: all of a document, docstrings and comments of code."""
    if path.suffix == ".md":
        yield from enumerate(path.read_text().splitlines(), start=1)
        return
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            is_docstring = token.type == tokenize.STRING and token.string.startswith('"""')
            if token.type == tokenize.COMMENT or is_docstring:
                yield from enumerate(token.string.splitlines(), start=token.start[0])


def missing_files(path: Path) -> list[str]:
    """`where:line names x` for each file that is named and is not there."""
    where = path.relative_to(ROOT)
    return [
        f"{where}:{line} names {name}, which does not exist"
        for line, text in said_by(path)
        for name in A_FILE.findall(text)
        if not exists(name, beside=path)
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_that_a_document_names_exists(path: Path) -> None:
    problems = missing_files(path)
    assert not problems, "\n".join(problems)


def test_every_file_that_a_docstring_or_comment_names_exists() -> None:
    problems = [problem for path in CODE if path != Path(__file__) for problem in missing_files(path)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_that_a_document_shows_exists(path: Path) -> None:
    problems = [
        f"{path.relative_to(ROOT)}:{line} shows `{command}`, which is no command"
        for line, text in said_by(path)
        for command in commands_in(text)
        if not is_command(command)
    ]
    assert not problems, "\n".join(problems)


def commands_in(text: str) -> Iterator[str]:
    """`pabal NAME` and `pabal NAME NAME`, where a line begins with them or has them in backquotes."""
    for shown in (text, *re.findall(r"`([^`]+)`", text)):
        if found := A_COMMAND.match(shown.removeprefix(".venv/bin/")):
            yield found[1]


def is_command(words: str) -> bool:
    """Whether `pabal NAME` is a command; and the next word one of its own, if NAME is a group of commands."""
    name, _, below = words.partition(" ")
    context = click.Context(main)
    command = main.get_command(context, name)
    if isinstance(command, click.Group) and below:
        command = command.get_command(context, below)
    return command is not None


def test_a_file_and_a_command_that_are_not_there_are_found() -> None:
    page = ROOT / "docs" / "why.md"

    assert not exists("worker/no_such_file.py", beside=page)
    assert exists("dlq/redrive/plan.py", beside=page)
    assert A_FILE.findall("see `worker/gone.py`, http://a.example/b.py and `tests/x/test_y.py`") == [
        "worker/gone.py",
        "tests/x/test_y.py",
    ]
    assert list(commands_in("run `pabal dlq list`, or `pabal gone`; see pabal.up")) == ["dlq list", "gone"]
    assert is_command("dlq list")
    assert is_command("up")
    assert not is_command("dlq gone")
    assert not is_command("gone")
