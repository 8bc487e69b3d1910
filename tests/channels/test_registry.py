"""Which channels are installed, and what is refused as one."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pabal.channels.registry import installed_channels
from pabal.errors import ConfigError

Install = Callable[..., None]

CODE = """
class Fax:
    name = "fax"
    default_provider = "modem"
    default_concurrency = 1
    part = None
"""

PART = """
from typing import Annotated
from pabal.channels.part import ContentPart, PartField
from pabal.notification import Fact

class FaxContent(Fact, frozen=True, kw_only=True):
    pages: Annotated[int | None, PartField("How many.", blanks="json")] = {default}

class {struct}(FaxContent, frozen=True, kw_only=True):
    cover: {cover} = None

class Fax:
    name = "fax"
    part = ContentPart(model={struct}, medium="fax", asked="Of a fax.", source="Of a fax.")
"""

NOTED = 'Annotated[str | None, PartField("The first page.")]'


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution on the path that declares one channel, as an installer would."""
    monkeypatch.syspath_prepend(tmp_path)

    def run(*, name: str = "fax", code: str = CODE) -> None:
        metadata = tmp_path / "acme_fax-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme_fax\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[pabal.channels]\n{name} = acme_fax:Fax\n")
        (tmp_path / "acme_fax.py").write_text(code)
        monkeypatch.delitem(sys.modules, "acme_fax", raising=False)

    return run


def found() -> list[str]:
    """What a process that starts now would find."""
    return list(installed_channels.__wrapped__())


def test_the_built_in_channels_are_found_in_the_order_of_their_names() -> None:
    assert found() == ["email", "webhook"]


def test_a_third_partys_channel_is_found_among_them(install: Install) -> None:
    install()

    assert found() == ["email", "fax", "webhook"]
    assert installed_channels.__wrapped__()["fax"].default_provider == "modem"


def test_a_part_with_notes_is_taken(install: Install) -> None:
    install(code=PART.format(default=None, struct="FaxSheetContent", cover=NOTED))

    part = installed_channels.__wrapped__()["fax"].part

    assert part is not None
    assert [(name, note.about) for name, note in part.fields.items()] == [
        ("pages", "How many."),
        ("cover", "The first page."),
    ]
    assert part.free_fields == ("pages",)


@pytest.mark.parametrize(
    ("installing", "problem"),
    [
        ({"name": "email"}, r"channel 'email' is claimed by .*acme_fax.* and .*pabal.*; uninstall one"),
        ({"name": "Fax"}, "no channel can be called 'Fax': a name is made of a-z and 0-9"),
        ({"name": "title"}, "no channel can be called 'title'"),
        ({"name": "unknown"}, "no channel can be called 'unknown'"),
        ({"name": "telefax"}, "channel 'telefax' calls itself 'fax'"),
        ({"code": ""}, "channel 'fax' of acme_fax .* cannot be loaded"),
        ({"code": "Fax = 3"}, "channel 'fax' of acme_fax .* is not callable"),
        (
            {"code": PART.format(default=3, struct="FaxSheetContent", cover=NOTED)},
            "cannot be used: FaxSheetContent.pages needs a PartField in its annotation, and the default None",
        ),
        (
            {"code": PART.format(default=None, struct="FaxSheetContent", cover="str | None")},
            "FaxSheetContent.cover needs a PartField",
        ),
        (
            {"code": PART.format(default=None, struct="FaxSheet", cover=NOTED)},
            "FaxSheet is not a struct of pabal.notification.Fact named …Content",
        ),
    ],
)
def test_what_is_no_channel_is_named_with_what_is_wrong(
    install: Install, installing: dict[str, str], problem: str
) -> None:
    install(**installing)

    with pytest.raises(ConfigError, match=problem):
        found()
