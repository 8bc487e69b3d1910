"""Providers and templates, by the settings."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from pabal.channels.registry import installed_channels
from pabal.clock import Clock, SystemClock
from pabal.compose.stores import open_store
from pabal.config import Settings
from pabal.errors import ConfigError
from pabal.ops.template_library import load_templates
from pabal.providers.port import Provider, ProviderContext, TakesReceipts
from pabal.providers.registry import create_provider
from pabal.template import Template
from pabal.worker.carrier import Carrier


def make_carriers(settings: Settings, *, clock: Clock, channels: tuple[str, ...] = ()) -> Mapping[str, Carrier]:
    """The providers of each channel, by the settings. Raises ConfigError."""
    context = ProviderContext(
        clock=clock, webhook_secrets={name: tenant.webhook_secrets for name, tenant in settings.tenants.items()}
    )
    enabled = settings.channels
    carriers = {}
    for name in channels or tuple(enabled):
        if name not in enabled:
            raise ConfigError(f"there is no channel {name!r} here; there are: {', '.join(enabled)}")
        first, *others = (
            Carrier(
                channel=installed_channels()[name],
                provider=_make_provider(settings, each.name, channel=name, context=context),
                provider_name=each.name,
                weight=each.weight,
                rate_per_second=settings.provider(each.name).rate_per_second,
            )
            for each in enabled[name].providers
        )
        carriers[name] = msgspec.structs.replace(first, others=tuple(others))
    return carriers


def _make_provider(settings: Settings, name: str, *, channel: str | None = None, context: ProviderContext) -> Provider:
    """The provider that the settings call `name`. Raises ConfigError, also when it does not carry `channel`."""
    own = settings.provider(name)
    kind = own.kind or name
    try:
        provider = create_provider(kind, options=own.options, context=msgspec.structs.replace(context, name=name))
    except ConfigError as error:
        # The provider's error names the table by the provider's kind; in the file the table may have another name.
        raise ConfigError(str(error).replace(f"$.providers.{kind}", f"$.providers.{name}")) from error
    if channel is not None and provider.channel != channel:
        raise ConfigError(f"$.channels.{channel}.provider: {name!r} carries {provider.channel}, not {channel}")
    return provider


def make_receivers(settings: Settings, *, clock: Clock) -> Mapping[str, TakesReceipts]:
    """Every provider of the settings that takes receipts, by its name there. Raises ConfigError."""
    receivers: dict[str, TakesReceipts] = {}
    for name in settings.providers:
        provider = _make_provider(settings, name, context=ProviderContext(clock=clock))
        if isinstance(provider, TakesReceipts):
            receivers[name] = provider
    return receivers


def own_templates(settings: Settings) -> Mapping[str, Template]:
    """The templates of the settings' folder; none when no folder is set. Raises ConfigError."""
    return load_templates(Path(settings.templates)) if settings.templates else {}


async def check_settings(settings: Settings) -> None:
    """Raise ConfigError for settings that no role could use: templates, providers, the store's URL.

    Opens no connection, and no file except templates and certificates.
    """
    own_templates(settings)
    carriers = make_carriers(settings, clock=SystemClock())
    for carrier in (each for first in carriers.values() for each in first.by_name.values()):
        await carrier.provider.close()
    await open_store(settings, Path()).close()
