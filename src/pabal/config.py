"""Settings: one TOML file, every key of it checked, defaults that work on one machine.

A secret is written as `"env:NAME"` or `"file:/path"` and read when the settings are loaded, so that no secret has
to stand in the file. API keys stand in it only as hashes.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from pabal.channels.registry import installed_channels
from pabal.choices import with_choices
from pabal.errors import ConfigError
from pabal.groups import RoleName
from pabal.guard import DEFAULT_GUARD, GuardSettings
from pabal.notification import CLASSES, RUNGS_SECONDS, NotificationClass
from pabal.places import check_database
from pabal.policy import DEFAULT_CLASSES, ClassSettings, Uncertain
from pabal.webhook_secret import read_secret

Seconds = Annotated[float, msgspec.Meta(ge=0.001, le=86400)]
Rate = Annotated[float, msgspec.Meta(ge=1e-4, le=1e6)]
"""A second. From one in three hours on; what is reckoned with it stays finite."""
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}\Z")]
Scope = Literal["send", "read", "admin", "operator"]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class ApiKey(_Table, frozen=True, kw_only=True):
    """A caller's key: the SHA-256 of the key in hex (`pabal key new` prints both), its tenant and what it may do."""

    tenant: Name
    hash: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    scopes: tuple[Scope, ...] = ("send",)


class ApiSettings(_Table, frozen=True, kw_only=True):
    """The HTTP API. `append_timeout_seconds` is the log's deadline; a request's own is longer."""

    host: str = "127.0.0.1"
    port: Port = 8080
    append_timeout_seconds: Seconds = 5.0
    keys: tuple[ApiKey, ...] = ()


class ClassOverrides(_Table, frozen=True, kw_only=True):
    """What the file may say about a class; what it leaves out keeps the default."""

    ladder_seconds: Annotated[tuple[int, ...], msgspec.Meta(min_length=1)] | None = None
    time_to_live_seconds: Annotated[float, msgspec.Meta(ge=0.001, le=6 * 86400)] | None = None
    weight: Count | None = None
    uncertain: Uncertain | None = None


class WeightedProvider(_Table, frozen=True, kw_only=True):
    """One of several providers of a channel: of what they carry together it carries `weight` parts."""

    name: str
    weight: Count = 1


class ChannelOverrides(_Table, frozen=True, kw_only=True):
    """What the file may say about a channel; what it leaves out keeps the default. `enabled`: whether there is one.

    `provider` names the provider that carries it; `providers` names several.
    """

    enabled: bool = True
    provider: str | None = None
    providers: Annotated[tuple[WeightedProvider, ...], msgspec.Meta(min_length=1)] | None = None
    concurrency: Count | None = None

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.provider is not None and self.providers is not None:
            raise ValueError("say provider or providers, not both")
        names = [each.name for each in self.providers or ()]
        if len(set(names)) < len(names):
            raise ValueError("a provider is named twice")


class ChannelSettings(_Table, frozen=True, kw_only=True):
    """One channel: what carries it, and how many calls may be under way at once in one worker.

    `others`: further providers; `weight` is what `provider` carries beside them.
    """

    provider: str
    concurrency: int
    weight: int = 1
    others: tuple[WeightedProvider, ...] = ()

    @property
    def providers(self) -> tuple[WeightedProvider, ...]:
        """All of them, in the order of the file."""
        return (WeightedProvider(name=self.provider, weight=self.weight), *self.others)


class ProviderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every provider's table may say; what else stands in it is the provider's own (`options`).

    `kind`: which provider it is (None: its name says so), so that there may be two of a kind. `rate_per_second`: how
    many calls it may be given by all workers together (None: any number).
    """

    kind: str | None = None
    rate_per_second: Rate | None = None
    options: Mapping[str, Any] = {}


def default_channels() -> Mapping[str, ChannelSettings]:
    """Every channel that is installed, with its own defaults. Raises ConfigError: an installed channel is unusable."""
    return {
        name: ChannelSettings(provider=channel.default_provider, concurrency=channel.default_concurrency)
        for name, channel in installed_channels().items()
    }


class TenantSettings(_Table, frozen=True, kw_only=True):
    """One tenant. `webhook_secrets`: Standard Webhooks secrets (`whsec_…`), the newest first; two while rotating.

    `quota_per_second`: deliveries that one api process accepts of it (None: any number), `quota_burst` of them at once
    after a silence (None: one second's).
    """

    webhook_secrets: tuple[str, ...] = ()
    quota_per_second: Rate | None = None
    quota_burst: Count | None = None

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.quota_burst is not None and self.quota_per_second is None:
            raise ValueError("quota_burst has no use without quota_per_second")


class LogSettings(_Table, frozen=True, kw_only=True):
    """The log. `url`: `sqlite:PATH` or `kafka://HOST:PORT[,HOST:PORT…]`; `kafka`: librdkafka settings (TLS, SASL)."""

    url: str | None = None
    kafka: Mapping[str, str] = {}
    group_protocol: Literal["classic", "consumer"] = "classic"
    session_seconds: Seconds = 6.0


class WorkerSettings(_Table, frozen=True, kw_only=True):
    """The worker. `window`: records in flight per class and channel; beyond it the log waits."""

    window: Count = 2000
    drain_seconds: Seconds = 20.0


class StatusSettings(_Table, frozen=True, kw_only=True):
    """Where a role without an API answers `/metrics`, `/healthz` and `/readyz`. `port` None: nowhere."""

    host: str = "127.0.0.1"
    port: Port | None = None


class StoreSettings(_Table, frozen=True, kw_only=True):
    """The store. `url`: `sqlite:PATH` or `postgresql://…`; `retention_seconds`: how long what ended is remembered."""

    url: str | None = None
    retention_seconds: Annotated[float, msgspec.Meta(ge=3 * 86400, le=36500 * 86400)] = 30 * 86400.0


class Settings(_Table, frozen=True, kw_only=True):
    """Everything a Pabal process can be told."""

    log: LogSettings = LogSettings()
    api: ApiSettings = ApiSettings()
    worker: WorkerSettings = WorkerSettings()
    store: StoreSettings = StoreSettings()
    status: StatusSettings = StatusSettings()
    expected: Mapping[RoleName, Annotated[int, msgspec.Meta(ge=0, le=10_000)]] = {}
    tenants: Mapping[Name, TenantSettings] = {}
    channel_overrides: Mapping[str, ChannelOverrides] = msgspec.field(default_factory=dict, name="channels")
    providers: Mapping[str, Mapping[str, Any]] = {}
    classes: Mapping[NotificationClass, ClassOverrides] = {}
    guard: GuardSettings = DEFAULT_GUARD
    templates: str | None = None
    ledger: str | None = None

    def __post_init__(self) -> None:
        """What no single type can check. Raises ValueError or ConfigError naming the place."""
        installed = installed_channels()
        for name in self.channel_overrides:
            if name not in installed:
                known = ", ".join(installed)
                raise ValueError(f"there is no channel {name!r}; there are: {known} - at `$.channels.{name}`")
        if self.ledger is not None:
            check_database(self.ledger, setting="$.ledger")
        if self.store.url is not None:
            check_database(self.store.url, setting="$.store.url")
        if not self.channels:
            raise ValueError("every channel is switched off - at `$.channels`")
        for tenant, each in self.tenants.items():
            for index, secret in enumerate(each.webhook_secrets):
                try:
                    read_secret(secret)
                except ValueError as error:
                    raise ValueError(f"{error} - at `$.tenants.{tenant}.webhook_secrets[{index}]`") from None
        for name, own in self.classes.items():
            for index, seconds in enumerate(own.ladder_seconds or ()):
                if seconds not in RUNGS_SECONDS:
                    delays = ", ".join(map(str, RUNGS_SECONDS))
                    raise ValueError(
                        f"no topic delays by {seconds} seconds; there are: {delays} "
                        f"- at `$.classes.{name}.ladder_seconds[{index}]`"
                    )

    @property
    def channels(self) -> Mapping[str, ChannelSettings]:
        """Every channel that is not switched off, the file's words over the defaults."""
        defaults = default_channels()
        own = {name: self.channel_overrides.get(name, ChannelOverrides()) for name in defaults}
        return {name: _channel(defaults[name], overrides) for name, overrides in own.items() if overrides.enabled}

    def provider(self, name: str) -> ProviderSettings:
        """What the file says of a provider. Raises ConfigError."""
        table = self.providers.get(name, {})
        own = {key: value for key, value in table.items() if key in ("kind", "rate_per_second")}
        try:
            common = msgspec.convert(own, ProviderSettings)
        except msgspec.ValidationError as error:
            problem, _, inner = with_choices(str(error), type_=ProviderSettings).partition(" - at ")
            raise ConfigError(f"$.providers.{name}{inner.strip('`').removeprefix('$')}: {problem}") from None
        return msgspec.structs.replace(common, options={key: table[key] for key in table if key not in own})

    def class_settings(self) -> Mapping[NotificationClass, ClassSettings]:
        """Every class, the file's words over the defaults."""
        return {name: _merge(DEFAULT_CLASSES[name], self.classes.get(name)) for name in CLASSES}


def _channel(defaults: ChannelSettings, own: ChannelOverrides) -> ChannelSettings:
    first, *others = own.providers or (WeightedProvider(name=own.provider or defaults.provider),)
    return ChannelSettings(
        provider=first.name,
        weight=first.weight,
        others=tuple(others),
        concurrency=own.concurrency or defaults.concurrency,
    )


def _merge(defaults: ClassSettings, own: ClassOverrides | None) -> ClassSettings:
    given = {key: value for key, value in msgspec.structs.asdict(own or ClassOverrides()).items() if value is not None}
    return msgspec.structs.replace(defaults, **given)


def load_settings(path: Path | None, *, environment: Mapping[str, str]) -> Settings:
    """The settings of a file (None: the defaults).

    Raises:
        ConfigError: no such file, not TOML, an unknown key, a value that does not fit, a secret that is not there;
            the message names the file and the place (`$.api.port`).
    """
    if path is None:
        return Settings()
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    except RecursionError:
        raise ConfigError(f"{path} is not a configuration: it nests too deeply") from None
    try:
        told = _with_secrets(table, where="$", environment=environment)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    try:
        return msgspec.convert(told, Settings)
    except msgspec.ValidationError as error:
        # Not `from error`, whose words may hold a secret that was put where a word was expected.
        complaint = _without_secrets(with_choices(str(error), type_=Settings), table, told)
        raise ConfigError(f"{path}: {complaint}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _without_secrets(text: str, written: Any, told: Any) -> str:
    """`text` without any value that came from elsewhere: what was `written` in the file is no secret."""
    match written, told:
        case dict(), dict():
            pairs = [(written[key], told[key]) for key in written]
        case list(), list():
            pairs = list(zip(written, told, strict=True))
        case _:
            return text.replace(told, "…") if isinstance(told, str) and told and told != written else text
    for inner_written, inner_told in pairs:
        text = _without_secrets(text, inner_written, inner_told)
    return text


def _with_secrets(value: Any, *, where: str, environment: Mapping[str, str]) -> Any:
    match value:
        case dict():
            return {
                key: _with_secrets(item, where=f"{where}.{key}", environment=environment) for key, item in value.items()
            }
        case list():
            return [
                _with_secrets(item, where=f"{where}[{index}]", environment=environment)
                for index, item in enumerate(value)
            ]
        case str() if value.startswith("env:"):
            name = value.removeprefix("env:")
            if name not in environment:
                raise ConfigError(f"the environment variable {name} is not set - at `{where}`")
            return environment[name]
        case str() if value.startswith("file:"):
            try:
                return Path(value.removeprefix("file:")).read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"cannot read the secret: {error} - at `{where}`") from error
        case _:
            return value
