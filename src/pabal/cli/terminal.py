"""Everything that a command prints goes through here, so that text from outside cannot steer the terminal.

Such text is a provider's answer, a name that a caller chose, the content of a record. It must not move the cursor,
forge a line, hide or reorder the text beside it (control sequences of ECMA-48, Unicode's bidirectional overrides as in
CVE-2021-42574), nor be read as markup. A character that is not printable is shown as its escape, such as `\\x1b`, so
that a person on call sees it.
"""

import logging
import select
import sys
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH: Final = 200

_LOG_FORMAT: Final = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def harmless(text: str) -> str:
    """The text on one line, each character that is not printable as its escape.

    `str.isprintable` knows every control, format, surrogate, private and unassigned character, and every separator but
    the space.
    """
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escape(character) for character in text)


def harmless_lines(text: str) -> str:
    """The same for a text that may have several lines, such as a traceback."""
    return "\n".join(harmless(line) for line in text.split("\n"))


def harmless_json(json: str) -> str:
    r"""JSON that means the same and is harmless: what is not printable is written as `\u....`."""
    return "".join(
        character if character.isprintable() or character == "\n" else _escape_in_json(character) for character in json
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def _escape_in_json(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[place : place + 2].hex()}" for place in range(0, len(units), 2))


def say(line: str, *, err: bool = False) -> None:
    """Print one line."""
    click.echo(harmless(line), err=err)


def say_lines(text: str) -> None:
    """Print a text of our own that has several lines; nothing in it comes from outside."""
    click.echo(harmless_lines(text))


def say_json(value: object) -> None:
    """Print a value as JSON, for programs and for `jq`."""
    click.echo(harmless_json(msgspec.json.format(msgspec.json.encode(value)).decode()))


def say_json_line(value: object) -> None:
    """Print a value as JSON on one line."""
    click.echo(harmless_json(msgspec.json.encode(value).decode()))


def is_output_read() -> bool:
    """Whether somebody still reads the standard output: false once the program behind a pipe has ended (poll(2))."""
    try:
        output = sys.stdout.fileno()
    except OSError:
        return True  # No file: a test reads it.
    poller = select.poll()
    poller.register(output, 0)
    return not any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))


class Terminal(Console):
    """Rich's console without markup in texts; what it prints is harmless."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        """A pipe has no width, and nothing may be cut there, so lines are long."""
        stream = sys.stderr if stderr else sys.stdout
        width = None if stream.isatty() else _PIPE_WIDTH
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, width=width, markup=False, emoji=False, highlight=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """As Rich's; a text is one line."""
        super().print(*(_harmless_text(each) for each in objects), **options)

    def print_value_as_json(self, value: object) -> None:
        """A value as indented JSON, coloured."""
        text = Text(harmless_json(msgspec.json.format(msgspec.json.encode(value)).decode()))
        JSONHighlighter().highlight(text)
        super().print(text)


class PlainTable(Table):
    """A table whose cells are one harmless line each. The first `firm` columns are whole on a narrow terminal too: the
    others give way."""

    def __init__(self, *columns: str, firm: int = 0) -> None:
        super().__init__(box=None, pad_edge=False, show_header=any(columns), header_style="dim")
        for place, name in enumerate(columns):
            self.add_column(name, no_wrap=place < firm)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """As Rich's."""
        super().add_row(*(_harmless_text(cell) for cell in cells), **options)


def _harmless_text(cell: Any) -> Any:
    match cell:
        case str():
            return Text(harmless(cell))
        case Text():
            return _with_plain(cell, harmless(cell.plain))
    return cell


def _with_plain(text: Text, plain: str) -> Text:
    if text.plain == plain:
        return text
    # The styles of its parts would now cover other characters, so only the style of the whole text stays.
    return Text(plain, style=text.style, overflow=text.overflow, no_wrap=text.no_wrap)


class HarmlessFormatter(logging.Formatter):
    """Log lines: one a message, and tracebacks whose messages are harmless."""

    def __init__(self) -> None:
        super().__init__(_LOG_FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line."""
        return harmless(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """The lines of a traceback."""
        return harmless_lines(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - logging's name
        """The lines of a stack."""
        return harmless_lines(super().formatStack(stack_info))


def log_to_terminal(level: int = logging.INFO) -> None:
    """Show log records on standard error, harmless."""
    handler = logging.StreamHandler()
    handler.setFormatter(HarmlessFormatter())
    logging.basicConfig(level=level, handlers=[handler])
