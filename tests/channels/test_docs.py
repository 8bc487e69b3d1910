"""docs/channels.md and the table of channels in docs/configuration.md, held to the code."""

import re
from pathlib import Path
from typing import Any

import msgspec

from pabal.channels.part import ContentPart, PartField
from pabal.channels.registry import installed_channels

DOCS = Path(__file__).parents[2] / "docs"
CHANNELS = (DOCS / "channels.md").read_text(encoding="utf-8")


def test_every_built_in_channel_has_a_heading() -> None:
    headings = re.findall(r"^## `(\w+)`$", CHANNELS, re.MULTILINE)

    assert headings == list(installed_channels())


def test_every_method_and_every_default_of_a_channel_is_explained() -> None:
    methods = re.findall(r"    def (\w+)\(self, (\w+)", (Path(DOCS.parent) / "src/pabal/channels/port.py").read_text())

    assert len(methods) == 5
    assert [name for name, first in methods if f"`{name}({first}" not in CHANNELS] == []
    assert [each for each in ("default_provider", "default_concurrency", "part") if f"`{each}`" not in CHANNELS] == []


def test_every_word_of_a_part_is_explained() -> None:
    words = [field.name for model in (PartField, ContentPart) for field in msgspec.structs.fields(model)]

    assert [word for word in words if f"`{word}`" not in CHANNELS and f"{word}=" not in CHANNELS] == ["about"]


def test_the_part_in_the_guide_can_be_declared() -> None:
    [code] = [
        block for block in re.findall(r" {3}```python\n(.*?) {3}```", CHANNELS, re.DOTALL) if "PagerContent" in block
    ]
    namespace: dict[str, Any] = {}
    exec(re.sub(r"^ {3}", "", code, flags=re.MULTILINE), namespace)

    part: ContentPart = namespace["part"]

    assert {name: note.blanks for name, note in part.fields.items()} == {"text": "text", "repeat": "json"}


def test_the_defaults_in_the_configuration_are_the_channels_own() -> None:
    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    rows = {name: cells.split(" | ") for name, cells in re.findall(r"^\| `?(\w*)`? ?\| (.*) \|$", text, re.MULTILINE)}
    installed = installed_channels()

    assert rows["provider"] == [channel.default_provider for channel in installed.values()]
    assert rows["concurrency"] == [str(channel.default_concurrency) for channel in installed.values()]
    assert f"| | {' | '.join(installed)} |" in text
