from pathlib import Path

import msgspec
import pytest

from pabal.channels.registry import installed_channels
from pabal.config import ChannelSettings, Settings, default_channels, load_settings
from pabal.errors import ConfigError
from pabal.notification import CLASSES, RUNGS_SECONDS
from pabal.policy import DEFAULT_CLASSES
from pabal.providers.smtp.options import SmtpOptions

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
DOC = Path(__file__).parent.parent / "docs" / "configuration.md"


def load(tmp_path: Path, text: str, environment: dict[str, str] | None = None) -> Settings:
    file = tmp_path / "pabal.toml"
    file.write_text(text)
    return load_settings(file, environment=environment or {})


def test_without_a_file_the_defaults_hold() -> None:
    settings = load_settings(None, environment={})

    assert settings == Settings()
    assert settings.class_settings() == DEFAULT_CLASSES


def test_every_default_ladder_is_made_of_delays_that_have_a_topic() -> None:
    for class_ in CLASSES:
        assert set(DEFAULT_CLASSES[class_].ladder_seconds) <= set(RUNGS_SECONDS)


def test_what_the_file_says_of_a_class_goes_over_the_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, "[classes.bulk]\nweight = 2\nladder_seconds = [5]\n")

    bulk = settings.class_settings()["bulk"]

    assert (bulk.weight, bulk.ladder_seconds) == (2, (5,))
    assert bulk.time_to_live_seconds == DEFAULT_CLASSES["bulk"].time_to_live_seconds


def test_what_the_file_says_of_a_channel_goes_over_the_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, "[channels.email]\nconcurrency = 10\n")

    channels = settings.channels

    assert channels == {**default_channels(), "email": ChannelSettings(provider="smtp", concurrency=10)}


def test_a_channel_can_be_carried_by_another_provider(tmp_path: Path) -> None:
    settings = load(tmp_path, '[channels.webhook]\nprovider = "example"\n')

    assert settings.channels["webhook"] == ChannelSettings(provider="example", concurrency=128)


def test_a_channel_can_be_switched_off(tmp_path: Path) -> None:
    settings = load(tmp_path, "[channels.email]\nenabled = false\n")

    assert list(settings.channels) == ["webhook"]


def test_every_channel_has_default_settings() -> None:
    assert list(default_channels()) == list(installed_channels())


def test_by_default_mail_has_as_many_calls_as_its_provider_opens_connections() -> None:
    assert default_channels()["email"].concurrency == SmtpOptions(host="h", sender="a@example.com").max_connections


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(f"{OTHER_SECRET}\n")

    settings = load(tmp_path, f'[tenants.shop]\nwebhook_secrets = ["env:HOOK", "file:{secret}"]\n', {"HOOK": SECRET})

    assert settings.tenants["shop"].webhook_secrets == (SECRET, OTHER_SECRET)


NUMBERS = {
    "[api]\nappend_timeout_seconds": "$.api.append_timeout_seconds",
    "[log]\nsession_seconds": "$.log.session_seconds",
    "[worker]\ndrain_seconds": "$.worker.drain_seconds",
    "[worker]\nwindow": "$.worker.window",
    "[store]\nretention_seconds": "$.store.retention_seconds",
    "[tenants.shop]\nquota_per_second": "$.tenants[...].quota_per_second",
    "[tenants.shop]\nquota_per_second = 1\nquota_burst": "$.tenants[...].quota_burst",
    "[channels.email]\nconcurrency": "$.channels[...].concurrency",
    "[classes.bulk]\nweight": "$.classes[...].weight",
    "[classes.bulk]\ntime_to_live_seconds": "$.classes[...].time_to_live_seconds",
    "[guard]\nfailure_ratio": "$.guard.failure_ratio",
    "[guard]\nminimum_calls": "$.guard.minimum_calls",
    "[guard]\nwindow_seconds": "$.guard.window_seconds",
    "[guard]\nhost_rate_per_second": "$.guard.host_rate_per_second",
    "[guard]\nbrake_ratio": "$.guard.brake_ratio",
    "[guard]\nbrake_records": "$.guard.brake_records",
}


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e308", "5e-324", "-1", "0", f"{10**30}"])
@pytest.mark.parametrize("setting", NUMBERS)
def test_a_number_beyond_all_bounds_is_refused_with_its_place(tmp_path: Path, setting: str, number: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, f"{setting} = {number}\n")

    assert NUMBERS[setting] in str(raised.value)


@pytest.mark.parametrize("number", ["nan", "inf", "1e308", "5e-324", "-1", "0"])
def test_a_providers_rate_beyond_all_bounds_is_refused(tmp_path: Path, number: str) -> None:
    settings = load(tmp_path, f"[providers.smtp]\nrate_per_second = {number}\n")

    with pytest.raises(ConfigError, match=r"\$\.providers\.smtp\.rate_per_second"):
        settings.provider("smtp")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[tenants.shop]\nquota_burst = 5", "quota_burst has no use without quota_per_second - at `$.tenants[...]`"),
        ("[tenants.shop]\nquota_per_second = 0", "`$.tenants[...].quota_per_second`"),
        ("[api]\nport = 99999\n", "$.api.port"),
        (
            "[api]\nprot = 1\n",
            "unknown field `prot`; there are: host, port, append_timeout_seconds, keys - at `$.api`",
        ),
        (
            "[apis]\n",
            "unknown field `apis`; there are: log, api, worker, store, status, expected, tenants, channels, providers",
        ),
        ("[api\n", "is not TOML"),
        ('["tenants"."shop\\n"]\n', "`key` in `$.tenants`"),
        ('[[api.keys]]\ntenant = "shop\\n"\nhash = "short"\n', "$.api.keys[0].tenant"),
        (f'[[api.keys]]\ntenant = "a"\nhash = "{"a" * 64}\\n"\n', "$.api.keys[0].hash"),
        ('[[api.keys]]\ntenant = "a"\nhash = "short"\n', "$.api.keys[0].hash"),
        ('[[api.keys]]\ntenant = "A B"\nhash = "short"\n', "$.api.keys[0].tenant"),
        (
            "[classes.urgent]\nweight = 1\n",
            "'urgent'; there are: bulk, critical, standard - at `key` in `$.classes`",
        ),
        (
            "[classes.bulk]\nladder_seconds = [7]\n",
            "there are: 5, 30, 120, 600, 1800, 7200, 21600 - at `$.classes.bulk.ladder_seconds[0]`",
        ),
        ("[classes.bulk]\nladder_seconds = []\n", "length >= 1 - at `$.classes[...].ladder_seconds`"),
        ("[classes.bulk]\ntime_to_live_seconds = 604800\n", "$.classes[...].time_to_live_seconds"),
        (
            "[channels.sms]\nconcurrency = 1\n",
            "there is no channel 'sms'; there are: email, webhook - at `$.channels.sms`",
        ),
        ("[channels]\nemail.enabled = false\nwebhook.enabled = false\n", "every channel is switched off"),
        (
            '[tenants.shop]\nwebhook_secrets = ["env:NOT_SET"]\n',
            "NOT_SET is not set - at `$.tenants.shop.webhook_secrets[0]`",
        ),
        (
            '[tenants.shop]\nwebhook_secrets = ["mysecret"]\n',
            "`pabal key webhook-secret` makes one - at `$.tenants.shop.webhook_secrets[0]`",
        ),
        (
            f'[tenants.shop]\nwebhook_secrets = ["{SECRET}", "whsec_{"A" * 31}="]\n',
            "`pabal key webhook-secret` makes one - at `$.tenants.shop.webhook_secrets[1]`",
        ),
        ('[providers.smtp]\npassword = "file:/not/there"\n', "$.providers.smtp.password"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)

    assert problem in str(raised.value)
    assert "pabal.toml" in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere\.toml"):
        load_settings(tmp_path / "nowhere.toml", environment={})


def test_every_setting_is_documented() -> None:
    text = DOC.read_text()

    for field in msgspec.structs.fields(Settings):
        assert f"\n## {field.encode_name}\n" in text


def test_the_documented_example_loads(tmp_path: Path) -> None:
    example = DOC.read_text().split("```toml\n")[1].split("```")[0]
    example = example.replace("file:/run/secrets/smtp", "env:SMTP")

    settings = load(tmp_path, example, {"KAFKA_PASSWORD": "x", "SHOP_WEBHOOK_SECRET": SECRET, "SMTP": "x"})

    assert settings.log.kafka["sasl.password"] == "x"
    assert settings.api.keys[0].tenant == "shop"


def test_a_channel_can_be_carried_by_several_providers_with_weights(tmp_path: Path) -> None:
    settings = load(tmp_path, '[channels.email]\nproviders = [{name = "smtp", weight = 9}, {name = "backup"}]\n')

    carried_by = settings.channels["email"].providers

    assert [(each.name, each.weight) for each in carried_by] == [("smtp", 9), ("backup", 1)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('provider = "a"\nproviders = [{name = "b"}]', "say provider or providers, not both"),
        ('providers = [{name = "b"}, {name = "b"}]', "a provider is named twice"),
        ("providers = []", "length >= 1"),
        ('providers = [{name = "b", weight = 0}]', "providers\\[0\\].weight"),
    ],
)
def test_providers_that_cannot_be_meant_are_refused(tmp_path: Path, line: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(tmp_path, f"[channels.email]\n{line}\n")


def test_a_providers_table_may_say_its_kind_and_rate_and_the_rest_is_its_own(tmp_path: Path) -> None:
    settings = load(tmp_path, '[providers.backup]\nkind = "smtp"\nrate_per_second = 20\nhost = "mx"\n')

    backup = settings.provider("backup")

    assert (backup.kind, backup.rate_per_second, backup.options) == ("smtp", 20.0, {"host": "mx"})
    assert settings.provider("webhook").kind is None


@pytest.mark.parametrize("line", ["rate_per_second = 0", "kind = 7"])
def test_a_providers_common_settings_are_checked(tmp_path: Path, line: str) -> None:
    settings = load(tmp_path, f"[providers.backup]\n{line}\n")

    with pytest.raises(ConfigError, match=r"^\$\.providers\.backup\.(kind|rate_per_second): Expected"):
        settings.provider("backup")


def test_a_file_that_nests_too_deeply_is_named(tmp_path: Path) -> None:
    file = tmp_path / "pabal.toml"
    file.write_text("x = " + "[" * 100_000)

    with pytest.raises(ConfigError, match="nests too deeply"):
        load_settings(file, environment={})
