import re
import tomllib
from pathlib import Path

import msgspec

from pabal.clock import ManualClock
from pabal.providers.port import ProviderContext
from pabal.providers.smtp import create
from pabal.providers.smtp.options import SmtpOptions

DOCS = (Path(__file__).parents[3] / "docs" / "email.md").read_text(encoding="utf-8")


def test_every_setting_is_explained_with_its_default() -> None:
    rows = {
        name: cells[1]
        for cells in (line.strip("| ").split(" | ") for line in DOCS.splitlines() if line.startswith("| `"))
        for name in re.findall(r"`(\w+)`", cells[0])
    }

    for field in msgspec.structs.fields(SmtpOptions):
        assert field.name in rows
        if isinstance(field.default, int | float | str):
            assert rows[field.name].strip('`"') in (
                f"{field.default:g}" if not isinstance(field.default, str) else field.default
            )


def test_the_example_is_accepted() -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", DOCS, re.DOTALL)

    create(tomllib.loads(example)["providers"]["smtp"], ProviderContext(clock=ManualClock()))
