"""What the Dockerfile and compose.yaml say, read so that a test can do the same without an engine."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml

ROOT = Path(__file__).parents[2]


class Instruction(msgspec.Struct, frozen=True):
    """One of the Dockerfile, its continued lines joined. `stage`: counted from 0."""

    word: str
    rest: str
    stage: int


def read_dockerfile() -> Sequence[Instruction]:
    """Every instruction, in order. hadolint judges the syntax."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    instructions: list[Instruction] = []
    stage = -1
    for line in filter(str.strip, text.splitlines()):
        word, _, rest = line.partition(" ")
        stage += word == "FROM"
        instructions.append(Instruction(word, rest.strip(), stage))
    return instructions


def entrypoint() -> list[str]:
    """What the image runs, before a command's arguments."""
    [found] = [each.rest for each in read_dockerfile() if each.word == "ENTRYPOINT"]
    return list(json.loads(found))


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """One of compose.yaml. `after`: the services that it waits for, and for what of them."""

    name: str
    image: str
    command: Sequence[str]
    environment: Mapping[str, str]
    after: Mapping[str, str]
    restart: str
    health: Sequence[str]

    @property
    def ends(self) -> bool:
        """Whether it does something once, instead of running on."""
        return self.restart == "no"


def read_compose(values: Mapping[str, str]) -> Mapping[str, Service]:
    """Every service. `values`: of the variables (`${NAME:?…}`). Raises KeyError for another."""
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda match: values[match[1]], (ROOT / "compose.yaml").read_text())
    document: dict[str, Any] = yaml.safe_load(text)
    return {
        name: Service(
            name=name,
            image=said["image"],
            command=said.get("command", []),
            environment=said.get("environment", {}),
            after={other: wait["condition"] for other, wait in said.get("depends_on", {}).items()},
            restart=said["restart"],
            health=said.get("healthcheck", {}).get("test", []),
        )
        for name, said in document["services"].items()
    }


def variables() -> set[str]:
    """The variables that compose.yaml demands."""
    return set(re.findall(r"\$\{(\w+):\?", (ROOT / "compose.yaml").read_text()))
