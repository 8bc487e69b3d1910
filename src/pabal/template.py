"""Templates: what to say, with blanks for the caller's data. Parse, compile, render, and name by content. Pure.

A template is written as a TOML file; what counts is its *source*, in one canonical spelling whose SHA-256 names it.
A delivery pins that hash, so a retry renders what was accepted, whatever has become of the file since.

A template sees the data it is given and nothing else, a blank without data is an error, rendering twice gives the
same text (no clock, no chance), and what it may cost is counted while it runs (`sandbox/`).
"""

import functools
import hashlib
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final

import jinja2
import msgspec

from pabal.channels.content import installed_parts, make_content
from pabal.channels.part import Text, source_model, whole_model
from pabal.choices import with_choices
from pabal.errors import ConfigError, TemplateError
from pabal.notification import Content, Fact
from pabal.sandbox.budget import WORK_APART, Meter, OverBudget
from pabal.sandbox.environment import Compiled, Sandbox

MAX_SOURCE_BYTES: Final = 256 * 1024
"""A template travels as one record, which every worker reads and keeps."""

MAX_RENDERED_CHARACTERS: Final = 1024 * 1024
"""Of one part. Loops multiply; a provider would refuse such a text anyway, after we had carried it there."""

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class TemplateSource(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """A template before it is compiled: the value of a `template/1` record. Parts fall back as in `Content`."""

    title: Text = None
    body: Text = None


class _Table(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Base of a channel's part in a source."""


class _FileTable(_Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a channel's part in a template's file."""


class _File(TemplateSource, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A template's file, without the channels' parts."""


@functools.cache
def source_type() -> type[TemplateSource]:
    """`TemplateSource` with the part of every installed channel."""
    return whole_model(TemplateSource, _tables(_Table))


@functools.cache
def _file_type() -> type[Any]:
    """A template's file. `sample` is data to try it with when it is loaded; it is no part of the template."""
    return whole_model(_File, {**_tables(_FileTable), "sample": dict[str, Any] | None})


def _tables(base: type[msgspec.Struct]) -> Mapping[str, Any]:
    return {name: source_model(part, base=base) | None for name, part in installed_parts().items()}


class Template:
    """A compiled template. Immutable; rendering is safe from any thread.

    `hash` is the SHA-256 of `source_json`, the canonical spelling, in hex. Equal hashes render alike.
    """

    def __init__(self, *, name: str, source: TemplateSource) -> None:
        """Compile. Raises TemplateError naming the part, with the line within it."""
        self.name = name
        self.source_json = _encode(source)
        self.hash = hashlib.sha256(self.source_json).hexdigest()
        self._parts = {part: _compile(part, text) for part, text in _texts(source).items()}

    def render(self, data: Mapping[str, Any], *, work: int = WORK_APART) -> Content:
        """What the template says with this data, for at most so much work.

        Raises:
            TooMuchWork: it would take more work than that.
            TemplateError: names the part and what it lacks.
        """
        meter = Meter(work)
        said = {part: _render(part, compiled, data, meter=meter) for part, compiled in self._parts.items()}
        own: dict[str, dict[str, Any]] = {}
        for part, text in said.items():
            channel, _, field = part.rpartition(".")
            if channel:
                is_json = _blanks_of(part) == "json"
                own.setdefault(channel, {})[field] = _read_json(part, text) if is_json else text
        parts = {channel: _part_of(channel, fields) for channel, fields in own.items()}
        return make_content(title=said.get("title"), body=said.get("body"), parts=parts)


def parse_template(name: str, text: str, *, path: str) -> Template:
    """The template in a TOML file's text; `path` is for messages only.

    Raises:
        ConfigError: the name cannot be one, not TOML, an unknown key, a part that does not compile or does not
            render its own sample; says the file and, where it can be told, the line.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{path}: a template's name is made of a-z, 0-9, '.', '_' and '-', at most 63 characters")
    if len(text.encode()) > MAX_SOURCE_BYTES:
        raise ConfigError(f"{path}: a template has at most {MAX_SOURCE_BYTES} bytes")
    try:
        file = msgspec.convert(tomllib.loads(text), _file_type())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {with_choices(str(error), type_=_file_type())}") from error
    source = source_type()(**{part: getattr(file, part) for part in source_type().__struct_fields__})
    if not _texts(source):
        raise ConfigError(f"{path}: says nothing; write a title, a body, or a part for a channel")
    try:
        template = Template(name=name, source=source)
        if file.sample is not None:
            template.render(file.sample)
    except _PartError as error:
        raise ConfigError(f"{path}{_file_line(text, error)}: {error.told}") from error
    return template


def read_template(name: str, source_json: bytes) -> Template:
    """The template in a `template/1` record. Raises TemplateError."""
    try:
        source = _decoder().decode(source_json)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TemplateError(f"not a template: {error}") from None
    return Template(name=name, source=source)


class _PartError(TemplateError):
    """The part at fault, and the line within it (1 is its first) if known. `told` is the message without the line."""

    def __init__(self, part: str, message: str, *, line: int | None = None) -> None:
        super().__init__(f"{part}{'' if line in (None, 1) else f', line {line}'}: {message}")
        self.told = f"{part}: {message}"
        self.part = part
        self.line = line


class TooMuchWork(_PartError):
    """The template is not wrong, but it would take more work than it was given."""


_encode = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


_PLAIN = Sandbox(autoescape=False)
_HTML = Sandbox(autoescape=True)


@functools.cache
def _decoder() -> msgspec.json.Decoder[TemplateSource]:
    return msgspec.json.Decoder(source_type())


def _texts(source: TemplateSource) -> dict[str, str]:
    """The parts that are there, by their name in the file."""
    parts = {"title": source.title, "body": source.body}
    for channel, part in installed_parts().items():
        table = getattr(source, channel, None)
        parts |= {f"{channel}.{field}": getattr(table, field, None) for field in part.fields}
    return {part: text for part, text in parts.items() if text is not None}


def _blanks_of(part: str) -> str:
    """What blanks in a part are: `text`, `html` or `json`."""
    channel, _, field = part.rpartition(".")
    return installed_parts()[channel].fields[field].blanks if channel else "text"


def _compile(part: str, text: str) -> Compiled:
    try:
        return Compiled(_HTML if _blanks_of(part) == "html" else _PLAIN, text)
    except jinja2.TemplateSyntaxError as error:
        raise _PartError(part, error.message or "does not compile", line=error.lineno) from None
    except (RecursionError, SyntaxError, MemoryError):
        # Jinja2 translates to Python, which has limits of its own: 20 nested loops, 100 levels, 200 parentheses.
        raise _PartError(part, "is nested too deeply") from None
    except ValueError as error:
        raise _PartError(part, f"does not compile: {error}") from None


def _render(part: str, compiled: Compiled, data: Mapping[str, Any], *, meter: Meter) -> str:
    try:
        said = compiled.render(data, meter=meter)
    except OverBudget as error:
        message = "takes more work than a template may: it repeats too much, or says too much, with this data"
        raise TooMuchWork(part, message, line=_line_in_template(error)) from None
    except MemoryError:
        # Not the template's fault alone: it depends on what else the process holds.
        raise
    except Exception as error:  # A template is a program: it can fail in any way that its data makes it fail.
        message = str(error) or type(error).__name__
        raise _PartError(part, f"does not render with this data: {message}", line=_line_in_template(error)) from None
    if len(said) > MAX_RENDERED_CHARACTERS:
        raise _PartError(part, f"renders to {len(said)} characters; at most {MAX_RENDERED_CHARACTERS}")
    return said


def _part_of(channel: str, fields: Mapping[str, Any]) -> Fact:
    try:
        return msgspec.convert(fields, installed_parts()[channel].model)
    except msgspec.ValidationError as error:
        raise _PartError(channel, f"does not render to what {channel} can say: {error}") from None


def _read_json(part: str, text: str) -> Any:
    try:
        return _decode_json(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _PartError(part, f"does not render to JSON: {error}; write values as {{{{ name | tojson }}}}") from None


def _line_in_template(error: BaseException) -> int | None:
    """The template's own line in a traceback, which Jinja2 rewrites to point at it."""
    line, frame = None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == "<template>":
            line = frame.tb_lineno
        frame = frame.tb_next
    return line


def _file_line(text: str, error: _PartError) -> str:
    """`:LINE` of the file for an error in a part, or nothing where the part is written in an unusual way."""
    *table, key = error.part.split(".")
    inside: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if heading := re.fullmatch(r"\s*\[\s*([\w.-]+)\s*\]\s*(#.*)?", line):
            inside = heading[1].split(".")
        elif inside == table and (found := re.match(rf"\s*{key}\s*=\s*(.*)", line)):
            # TOML drops the line end right after the opening quotes, so the text starts on the next line.
            opens_below = found[1].rstrip() in ('"""', "'''")
            return f":{number + opens_below + (error.line or 1) - 1}"
    return ""
