"""URLs that hold a password: what is refused, and that no error and no display shows it."""

from pathlib import Path

import pytest

from pabal.clock import SystemClock
from pabal.compose.parts import open_broker
from pabal.config import LogSettings, Settings, StoreSettings, load_settings
from pabal.errors import ConfigError
from pabal.places import check_database, without_password

SECRET = "hunter2hunter2"

WRONG = [
    f"mysql://u:{SECRET}@db/x",
    f"postgres+psycopg://u:{SECRET}@db/x",
    f"postgresql:u:{SECRET}@db/x",
    f"sqlite://u:{SECRET}@db/x",
    f"postgresql://u:{SECRET}@[bad/x",
    f"postgresql://u:{SECRET}@db:port/x",
    f"postgresql://u:{SECRET}@db:99999/x",
    f"postgresql://u:a/{SECRET}@db/x",
    f"postgresql://u:a@{SECRET}@db/x",
    f"postgresql://u:a?{SECRET}@db/x",
    f"postgresql://u:{SECRET}%zz@db/x",
    f"postgresql://u:{SECRET}%00@db/x",
    f"postgresql://u:{SECRET} x@db/x",
    f"host=db password={SECRET}",
    f"sqlite:host=db PASSWORD={SECRET}",
    "sqlite:",
    "",
]


@pytest.mark.parametrize("url", WRONG)
@pytest.mark.parametrize("setting", ["ledger", "store.url"])
def test_what_is_no_ledger_or_store_is_refused_by_its_place_and_never_quoted(url: str, setting: str) -> None:
    store = StoreSettings(url=url) if setting == "store.url" else StoreSettings()

    with pytest.raises(ConfigError) as refused:
        Settings(ledger=url if setting == "ledger" else None, store=store)

    assert str(refused.value).startswith(f"$.{setting}: ")
    assert "hunter" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "ledger.db",
        "/var/lib/pabal/a=b.db",
        "sqlite:ledger.db",
        "postgresql://db/x",
        "postgres://u:p%40%2F@db:5432/x?sslmode=verify-full",
        "postgresql://u:p@a:1,b:2/x",
        "postgresql://u:p@[::1]:5432/x",
        "postgresql:///x?host=/var/run/postgresql",
        "postgresql://u@%2Fvar%2Frun/x",
    ],
)
def test_what_drivers_read_alike_is_taken(url: str) -> None:
    check_database(url, setting="$.ledger")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://u:{SECRET}@db/x", "postgresql://db/x"),
        (f"postgresql://db/x?password={SECRET}&sslmode=require", "postgresql://db/x"),
        (f"mysql://u:a@{SECRET}@db", "mysql://db"),
        ("sqlite:/var/lib/pabal/log.db", "sqlite:/var/lib/pabal/log.db"),
        ("kafka://a:9092,b:9092", "kafka://a:9092,b:9092"),
    ],
)
def test_a_url_is_shown_without_who_and_what(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize("url", [f"kafka://u:{SECRET}@host:9092", f"amqp://u:{SECRET}@host", f"kafka://u:{SECRET}@h/x"])
async def test_a_log_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        await open_broker(url, settings=Settings(), clock=SystemClock())

    assert SECRET not in str(refused.value)


async def test_an_option_of_kafka_that_is_refused_does_not_tell_another_ones_value() -> None:
    options = {"security.protocol": "SASL_SSL", "sasl.mechanism": SECRET, "sasl.password": SECRET, "sasl.username": "u"}

    with pytest.raises(ConfigError) as refused:
        await open_broker("kafka://127.0.0.1:9", settings=Settings(log=LogSettings(kafka=options)), clock=SystemClock())

    assert "SASL mechanism" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_secret_that_stands_where_a_word_was_expected_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "pabal.toml"
    path.write_text('[classes.bulk]\nuncertain = "env:PW"\n')

    with pytest.raises(ConfigError) as refused:
        load_settings(path, environment={"PW": SECRET})

    assert "$.classes" in str(refused.value)
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
