"""Templates at the edges: read from a folder, published to the log, and found again by hash on any host.

The api publishes every template it loads to `pabal.ops` before it accepts anything, under `template/<hash>`. That
topic is compacted, so each template is kept once and for ever. A worker renders what was accepted by asking its library
for the hash: also on another host, with another folder, or years later. The library reads the topic only when it is
asked for a hash that it does not know.
"""

import asyncio
import hashlib
import logging
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Final

from pabal.broker.port import Admin, NewRecord, Producer, Reader, Record, TopicPartition
from pabal.codec import SCHEMA_HEADER, check_schema
from pabal.errors import ConfigError, DecodeError, TemplateError
from pabal.notification import OPS_TOPIC, Content, TemplateRef
from pabal.rendering import RenderingStopped, Renders
from pabal.sandbox.budget import WORK_HERE
from pabal.tail import Tail
from pabal.template import Template, TooMuchWork, parse_template, read_template
from pabal.unreadable import Unreadable

logger = logging.getLogger(__name__)

TEMPLATE_SCHEMA: Final = b"template/1"
_KEY_PREFIX: Final = b"template/"


def load_templates(directory: Path) -> Mapping[str, Template]:
    """Every `<name>.toml` of a folder, compiled, by name.

    Raises:
        ConfigError: no such folder, or a template that cannot be used; says the file and the line.
    """
    if not directory.is_dir():
        raise ConfigError(f"the templates folder {directory} does not exist")
    return {path.stem: _load(path) for path in sorted(directory.glob("*.toml"))}


def _load(path: Path) -> Template:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return parse_template(path.stem, text, path=str(path))


def template_record(template: Template) -> NewRecord:
    """The template as every role can find it; its value is the canonical source that its hash was taken of."""
    return NewRecord(
        topic=OPS_TOPIC,
        key=_KEY_PREFIX + template.hash.encode(),
        value=template.source_json,
        headers=((SCHEMA_HEADER, TEMPLATE_SCHEMA), ("x-template-name", template.name.encode())),
    )


async def publish_templates(templates: Collection[Template], *, producer: Producer) -> None:
    """Make the templates known to every role. To be awaited before the first request is accepted; repeatable.

    Raises LogUnavailable, UnknownTopic.
    """
    if templates:
        await producer.append([template_record(template) for template in templates])


class TemplateLibrary:
    """Renders pinned templates, on whichever host they were loaded. Belongs to one event loop; any number of tasks may
    ask."""

    def __init__(self, templates: Collection[Template], *, reader: Reader, admin: Admin, apart: Renders) -> None:
        """`templates`: the templates of this host's own folder (none is fine); the rest comes from the log when it is
        asked for. `apart` renders what is too large for an event loop."""
        self.unreadable = Unreadable("templates")
        self._templates = {template.hash: template for template in templates}
        self._reader = reader
        self._admin = admin
        self._apart = apart
        self._tails: dict[TopicPartition, Tail] = {}
        self._reading = asyncio.Lock()

    async def render(self, pinned: TemplateRef) -> Content:
        """What the pinned template says with the pinned data.

        Raises:
            TemplateError: this hash was never published, or the template does not render: says nothing about the log.
            LogUnavailable, UnknownTopic: the hash is not known here and the log could not be asked; try again.
            RenderingUnavailable: the template is large, and what renders large ones is away; try again.
        """
        template = self._templates.get(pinned.hash) or await self._find(pinned)
        try:
            return template.render(pinned.data, work=WORK_HERE)
        except TooMuchWork:
            return await self._render_apart(template, pinned.data)

    async def _render_apart(self, template: Template, data: Mapping[str, Any]) -> Content:
        try:
            return await self._apart.render(template, data)
        except RenderingStopped as error:
            # It was rendered when it was accepted. A machine that was slow or short of memory for a moment must not
            # make a dead letter of it.
            logger.warning("template %r is rendered once more: %s", template.name, error)
            return await self._apart.render(template, data)

    async def _find(self, pinned: TemplateRef) -> Template:
        async with self._reading:
            # While this task waited for its turn, another may have read what it wants.
            if pinned.hash not in self._templates:
                await self._read_on()
        try:
            return self._templates[pinned.hash]
        except KeyError:
            raise TemplateError(
                f"template {pinned.name!r} with hash {pinned.hash[:12]}… is neither in this host's folder nor in "
                f"{OPS_TOPIC}; was the api that accepted it started on another log?"
            ) from None

    async def _read_on(self) -> None:
        """Learn what was published since the last look; the first look reads the whole topic."""
        for partition in await self._admin.watermarks(OPS_TOPIC):
            tail = self._tails.get(partition)
            if tail is None:
                tail = self._tails[partition] = Tail(OPS_TOPIC, reader=self._reader, partition=partition.partition)
            await self._read_tail(tail)
            if tail.is_whole_next:
                await self._read_tail(tail)

    async def _read_tail(self, tail: Tail) -> None:
        async for record in tail.read_on():
            self._learn(record)

    def _learn(self, record: Record) -> None:
        key = record.key or b""
        if record.value is None or not key.startswith(_KEY_PREFIX):
            return
        name = (record.header("x-template-name") or b"").decode(errors="replace")
        try:
            check_schema(record, TEMPLATE_SCHEMA)
            # The value is what the hash was taken of: another source under it is not what was accepted.
            if hashlib.sha256(record.value).hexdigest().encode() != key.removeprefix(_KEY_PREFIX):
                raise TemplateError("not the template that its key names")
            template = read_template(name, record.value)
        except (DecodeError, TemplateError) as error:
            # Published by a version that knew more, perhaps; a delivery that pins it is told that it is not known here.
            self.unreadable.note(record, error)
            return
        # Under the hash it was published with: a later version may spell the same source with more fields.
        self._templates[key.removeprefix(_KEY_PREFIX).decode()] = template
