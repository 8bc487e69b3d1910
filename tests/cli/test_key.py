"""`pabal key new`: what it prints opens the API as the configuration says."""

import hashlib
import re
from typing import get_args

import msgspec
import pytest
from click.testing import CliRunner

from pabal.api.keys import Keyring
from pabal.cli.main import main
from pabal.config import Scope, Settings


@pytest.mark.parametrize("scope", get_args(Scope))
def test_a_key_of_every_scope_can_be_made(scope: Scope) -> None:
    made = CliRunner().invoke(main, ["key", "new", "--tenant", "shop", "--scope", scope])

    [key] = re.findall(r"pabal_[\w-]{43}", made.stderr)
    [entry] = msgspec.toml.decode(made.stdout, type=Settings).api.keys
    assert entry.hash == hashlib.sha256(key.encode()).hexdigest()
    assert Keyring([entry]).caller(f"Bearer {key}".encode(), scope=scope).tenant == "shop"


def test_the_help_says_what_an_operators_key_may_do() -> None:
    told = CliRunner().invoke(main, ["key", "new", "--help"]).output

    assert "every tenant's dead letters" in " ".join(told.split())
