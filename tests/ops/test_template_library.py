"""Templates at the edges: the folder, publishing to a real log, and finding a pinned template on another host."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pabal.broker.port import NewRecord, Record, TopicPartition, TopicSpec
from pabal.broker.sqlite.broker import SqliteBroker, SqliteReader
from pabal.clock import SystemClock
from pabal.errors import ConfigError, OffsetOutOfRange, TemplateError, UnknownTopic
from pabal.notification import OPS_TOPIC, Content, TemplateRef
from pabal.ops.template_library import TemplateLibrary, load_templates, publish_templates, template_record
from pabal.rendering import RenderingProcess, RenderingStopped
from pabal.template import Template, parse_template


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[SqliteBroker]:
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=SystemClock())
    await broker.admin().create_topic(TopicSpec(name=OPS_TOPIC, partitions=2, compacted=True))
    yield broker
    await broker.close()


def template(title: str, *, name: str = "greeting") -> Template:
    return parse_template(name, f'title = "{title}"', path=f"{name}.toml")


def pin(one: Template, **data: object) -> TemplateRef:
    return TemplateRef(name=one.name, hash=one.hash, data=data)


class CountingReader:
    """The log's own reader, counting how often it is asked."""

    def __init__(self, reader: SqliteReader) -> None:
        self._reader = reader
        self.starts: list[int | datetime | None] = []

    def read(
        self, partition: TopicPartition, *, start: int | datetime | None = None, stop: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        self.starts.append(start)
        return self._reader.read(partition, start=start, stop=stop)

    async def close(self) -> None:
        await self._reader.close()


def library(broker: SqliteBroker, *own: Template) -> tuple[TemplateLibrary, CountingReader]:
    reader = CountingReader(broker.reader())
    return TemplateLibrary(own, reader=reader, admin=broker.admin(), apart=RenderingProcess()), reader


def test_every_toml_file_of_the_folder_is_a_template(tmp_path: Path) -> None:
    (tmp_path / "welcome.toml").write_text('title = "Hello"')
    (tmp_path / "order-shipped.toml").write_text('title = "Shipped"')
    (tmp_path / "README.md").write_text("not a template")

    templates: Mapping[str, Template] = load_templates(tmp_path)

    assert {name: one.render({}).title for name, one in templates.items()} == {
        "welcome": "Hello",
        "order-shipped": "Shipped",
    }


def test_a_broken_template_is_reported_with_its_path_and_line(tmp_path: Path) -> None:
    (tmp_path / "welcome.toml").write_text('# hello\ntitle = "{{"')

    with pytest.raises(ConfigError, match=r"welcome\.toml:2: title: "):
        load_templates(tmp_path)


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "welcome.toml").write_bytes(b'title = "\xff"')

    with pytest.raises(ConfigError, match=r"cannot read .*welcome\.toml"):
        load_templates(tmp_path)


def test_a_folder_that_is_not_there_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_templates(tmp_path / "nope")


async def test_a_published_template_is_rendered_by_a_host_that_never_had_it(broker: SqliteBroker) -> None:
    published = template("Hello {{ name }}")
    await publish_templates([published], producer=broker.producer())
    elsewhere, _ = library(broker)

    content = await elsewhere.render(pin(published, name="Ana"))

    assert content == Content(title="Hello Ana")


async def test_a_delivery_renders_what_was_accepted_after_the_template_has_changed(broker: SqliteBroker) -> None:
    before, after = template("Hello"), template("Goodbye")
    await publish_templates([before], producer=broker.producer())
    await publish_templates([after], producer=broker.producer())
    elsewhere, _ = library(broker, after)

    assert (await elsewhere.render(pin(before))).title == "Hello"
    assert (await elsewhere.render(pin(after))).title == "Goodbye"


async def test_a_hosts_own_template_needs_no_log(broker: SqliteBroker) -> None:
    own = template("Hello")
    here, reader = library(broker, own)

    assert (await here.render(pin(own))).title == "Hello"
    assert reader.starts == []


async def test_the_log_is_read_whole_once_and_from_there_on_only_what_is_new(broker: SqliteBroker) -> None:
    first, second, third = template("1"), template("2"), template("3")
    producer = broker.producer()
    await publish_templates([first, second], producer=producer)
    elsewhere, reader = library(broker)

    await asyncio.gather(*(elsewhere.render(pin(one)) for one in (first, second, first)))
    assert reader.starts == [None, None]

    await producer.append(
        [NewRecord(topic=OPS_TOPIC, key=b"x", value=b"x", partition=partition) for partition in (0, 1)]
    )
    with pytest.raises(TemplateError):
        await elsewhere.render(pin(third))
    await publish_templates([third], producer=producer)
    assert (await elsewhere.render(pin(third))).title == "3"
    assert None not in reader.starts[-2:]


class ForgetfulReader(CountingReader):
    """A log whose low watermark has passed every place that anyone remembers."""

    def read(
        self, partition: TopicPartition, *, start: int | datetime | None = None, stop: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        if start is not None:
            raise OffsetOutOfRange(f"{partition} begins after {start}")
        return super().read(partition, start=start, stop=stop)


async def test_a_log_that_was_cut_off_meanwhile_is_read_from_where_it_begins_now(broker: SqliteBroker) -> None:
    first, second = template("1"), template("2")
    elsewhere = TemplateLibrary(
        [], reader=ForgetfulReader(broker.reader()), admin=broker.admin(), apart=RenderingProcess()
    )

    await publish_templates([first], producer=broker.producer())
    assert (await elsewhere.render(pin(first))).title == "1"

    await publish_templates([second], producer=broker.producer())
    assert (await elsewhere.render(pin(second))).title == "2"


async def test_a_template_that_nobody_published_is_an_error_that_says_where_it_was_looked_for(
    broker: SqliteBroker,
) -> None:
    elsewhere, _ = library(broker)

    with pytest.raises(TemplateError, match=r"template 'greeting' with hash .* neither in this host's folder nor in"):
        await elsewhere.render(pin(template("Hello")))


async def test_other_shared_state_and_broken_records_are_passed_over(broker: SqliteBroker) -> None:
    good, producer = template("Hello"), broker.producer()
    record = template_record(good)
    await producer.append(
        [
            NewRecord(topic=OPS_TOPIC, key=None, value=b"x"),
            NewRecord(topic=OPS_TOPIC, key=b"directive/1", value=b"{}"),
            NewRecord(topic=OPS_TOPIC, key=b"template/gone", value=None),
            NewRecord(topic=OPS_TOPIC, key=b"template/newer", value=record.value, headers=(("schema", b"template/2"),)),
            NewRecord(topic=OPS_TOPIC, key=b"template/broken", value=b"{", headers=record.headers),
            record,
        ]
    )
    elsewhere, _ = library(broker)

    assert (await elsewhere.render(pin(good))).title == "Hello"
    for unusable in ("gone", "newer", "broken"):
        with pytest.raises(TemplateError):
            await elsewhere.render(TemplateRef(name="greeting", hash=unusable))


async def test_when_the_log_cannot_be_asked_the_error_is_the_logs(tmp_path: Path) -> None:
    broker = await SqliteBroker.open(tmp_path / "empty.db", clock=SystemClock())
    elsewhere, _ = library(broker)

    with pytest.raises(UnknownTopic):
        await elsewhere.render(pin(template("Hello")))
    await broker.close()


LARGE = "{% for row in rows %}{{ row.name | upper }} {% endfor %}"
ROWS = [{"name": "a lamp"}] * 20_000
"""More than may be rendered in an event loop."""


class Stopping:
    """A process for large templates that is stopped at its first renderings."""

    def __init__(self, *, times: int) -> None:
        self.asked = 0
        self._times = times

    async def render(self, template: Template, data: Mapping[str, Any]) -> Content:
        self.asked += 1
        if self.asked <= self._times:
            raise RenderingStopped("too slow")
        return template.render(data)


async def test_a_large_template_whose_rendering_is_stopped_once_is_rendered_once_more(broker: SqliteBroker) -> None:
    large, apart = template(LARGE), Stopping(times=1)
    here = TemplateLibrary([large], reader=broker.reader(), admin=broker.admin(), apart=apart)

    content = await here.render(pin(large, rows=ROWS))

    assert content.title is not None
    assert content.title.startswith("A LAMP")
    assert apart.asked == 2


async def test_a_large_template_whose_rendering_is_stopped_twice_is_an_error(broker: SqliteBroker) -> None:
    large, apart = template(LARGE), Stopping(times=2)
    here = TemplateLibrary([large], reader=broker.reader(), admin=broker.admin(), apart=apart)

    with pytest.raises(TemplateError, match="too slow"):
        await here.render(pin(large, rows=ROWS))


async def test_a_small_template_does_not_go_to_the_process_for_large_ones(broker: SqliteBroker) -> None:
    small, apart = template(LARGE), Stopping(times=0)
    here = TemplateLibrary([small], reader=broker.reader(), admin=broker.admin(), apart=apart)

    await here.render(pin(small, rows=ROWS[:20]))

    assert apart.asked == 0


async def test_publishing_nothing_appends_nothing(tmp_path: Path) -> None:
    broker = await SqliteBroker.open(tmp_path / "empty.db", clock=SystemClock())

    await publish_templates([], producer=broker.producer())
    await broker.close()
