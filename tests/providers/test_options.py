from typing import Annotated

import msgspec
import pytest

from pabal.errors import ConfigError
from pabal.providers.options import Options, read_options


class Login(Options, frozen=True, kw_only=True):
    user: str
    password: str


class Settings(Options, frozen=True, kw_only=True):
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=60)] = 10.0
    hosts: tuple[str, ...] = ()
    login: Login | None = None

    def __post_init__(self) -> None:
        if "bad" in self.hosts:
            raise ValueError("'bad' is not a host")


def test_a_table_becomes_a_value_with_defaults() -> None:
    settings = read_options({"hosts": ["a", "b"], "timeout_seconds": 3}, Settings, path="$.providers.x")

    assert settings == Settings(hosts=("a", "b"), timeout_seconds=3.0)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"timeout_seconds": "ten"}, "$.providers.x.timeout_seconds: Expected `float`, got `str`"),
        ({"timeout_seconds": 0}, "$.providers.x.timeout_seconds: Expected `float` > 0.0"),
        ({"hosts": ["a", 1]}, "$.providers.x.hosts[1]: Expected `str`, got `int`"),
        ({"login": {"user": "u"}}, "$.providers.x.login: Object missing required field `password`"),
        ({"hosts": ["bad"]}, "$.providers.x: 'bad' is not a host"),
        ({"timeout": 1}, "$.providers.x.timeout: unknown setting; there are: timeout_seconds, hosts, login"),
    ],
)
def test_a_wrong_setting_is_named_by_its_path(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_options(table, Settings, path="$.providers.x")

    assert str(raised.value) == message
