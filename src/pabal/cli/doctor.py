"""`pabal doctor`: is everything right here, and if not, what is to be done? It changes nothing."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click
import msgspec
from rich.text import Text

from pabal.cli.options import common_options, settings_here, with_clear_errors
from pabal.cli.terminal import Terminal, say_json
from pabal.clock import SystemClock
from pabal.compose.inbox import DEVELOPMENT_SENDER, check_inbox, needs_inbox
from pabal.compose.ledgers import ledger_setting
from pabal.compose.parts import look_at_log
from pabal.compose.providers import check_settings, make_carriers
from pabal.config import Settings
from pabal.doctor.clock import judge_clock
from pabal.doctor.databases import judge_ledger, judge_store
from pabal.doctor.finding import Finding, fail, ok, warn
from pabal.doctor.log import compare_topics, newest_record, recorded_ledger
from pabal.doctor.machine import check_configuration_file, check_descriptors, check_disk, check_files
from pabal.errors import ConfigError, LogError, PabalError
from pabal.ledger.looking import look_at_ledger
from pabal.notification import EVENTS_TOPIC, OPS_TOPIC
from pabal.ops.ledger_identity import Recorded
from pabal.outcome import Accepted
from pabal.places import is_postgres, without_password
from pabal.providers.port import ChecksConnection
from pabal.store.looking import look_at_store
from pabal.store.sql import store_url

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command()
@common_options
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@with_clear_errors
def doctor(log_url: str | None, config: Path | None, data: Path, *, as_json: bool) -> None:
    """Look whether everything is right here, and say what is to be done where it is not.

    Looks at configuration, log, topics, ledger, store, providers (nothing is sent), clock, files, descriptors and disk.
    Changes nothing. Exit status 1 if anything fails.
    """
    findings = asyncio.run(_examine(log_url, config=config, data=data))
    if as_json:
        is_well = all(each.level != "fail" for each in findings)
        say_json({"ok": is_well, "findings": findings})
    else:
        console = Terminal(soft_wrap=True)
        for each in findings:
            console.print(Text.assemble((f"{each.level:<5}", _STYLES[each.level]), f"{each.check:<14}{each.text}"))
    if any(each.level == "fail" for each in findings):
        click.get_current_context().exit(1)


async def _examine(log_url: str | None, *, config: Path | None, data: Path) -> Sequence[Finding]:
    try:
        settings = settings_here(config, data)
    except ConfigError as error:
        return [fail("configuration", str(error)), *check_files(_files(Settings(), data, ""), folder=data)]
    url = log_url or settings.log.url or f"sqlite:{data / 'log.db'}"
    findings = [*await _check_configuration(settings, config=config)]
    about_log, recorded, appended = await _check_log(url, settings=settings)
    findings += about_log
    others: dict[str, tuple[datetime, datetime]] = {}
    findings.append(await _check_ledger(settings, data, recorded=recorded, others=others))
    findings.append(await _check_store(settings, data, others=others))
    findings += await _check_providers(settings, url=url)
    now = SystemClock().now()
    skewed = {name: now + (theirs - asked_at) for name, (theirs, asked_at) in others.items()}
    findings += judge_clock(now, others=skewed, appended=appended)
    findings += check_files(_files(settings, data, url), folder=data)
    findings += check_configuration_file(config) if config is not None else ()
    findings.append(check_descriptors(calls=sum(each.concurrency for each in settings.channels.values())))
    findings.append(check_disk(data))
    return findings


async def _check_configuration(settings: Settings, *, config: Path | None) -> list[Finding]:
    findings = []
    if needs_inbox(settings):  # which `pabal up` puts here; everything else is as it is
        inbox = {"host": "127.0.0.1", "sender": DEVELOPMENT_SENDER, **settings.providers.get("smtp", {})}
        settings = msgspec.structs.replace(settings, providers={**settings.providers, "smtp": inbox})
    try:
        await check_settings(settings)
    except PabalError as error:
        findings.append(fail("configuration", str(error)))
    if not settings.api.keys:
        findings.append(
            warn("configuration", "no API key: nobody can send anything; make one: pabal key new --tenant NAME")
        )
    if "webhook" in settings.channels:
        tenants = {key.tenant for key in settings.api.keys}
        with_secrets = {name for name, tenant in settings.tenants.items() if tenant.webhook_secrets}
        findings += [
            warn("configuration", f"tenant {name} has no webhook secret: set $.tenants.{name}.webhook_secrets")
            for name in sorted(tenants - with_secrets)
        ]
    return findings or [ok("configuration", f"{config or 'the defaults'} can be used")]


async def _check_log(url: str, *, settings: Settings) -> tuple[list[Finding], Recorded, datetime | None]:
    place = without_password(url)
    create = f"pabal topics create --log {place}"
    recorded, appended = Recorded(), None
    try:
        began = time.perf_counter()
        async with look_at_log(url, settings=settings, clock=SystemClock()) as log:
            existing = await log.topics()
            milliseconds = (time.perf_counter() - began) * 1000
            findings = [ok("log", f"{place} answers ({milliseconds:.0f} ms to open it and list its topics)")]
            findings += compare_topics(existing, channels=settings.channels, create=create)
            if OPS_TOPIC in existing and EVENTS_TOPIC in existing:
                recorded, appended = await recorded_ledger(log), await newest_record(log)
    except (LogError, ConfigError) as error:
        return [fail("log", f"{error}{_first_step(url)}")], recorded, appended
    return findings, recorded, appended


def _first_step(url: str) -> str:
    if url.startswith("sqlite:") and not Path(url.removeprefix("sqlite:")).exists():
        return "; there is none yet: `pabal up` makes it, or give --data or --log"
    return ""


async def _check_ledger(
    settings: Settings, data: Path, *, recorded: Recorded, others: dict[str, tuple[datetime, datetime]]
) -> Finding:
    setting = ledger_setting(settings, data)
    place = without_password(setting)
    try:
        looked = await look_at_ledger(setting)
    except PabalError as error:
        return fail("ledger", str(error))
    if looked is not None and looked.now is not None and looked.asked_at is not None:
        others["the ledger's PostgreSQL"] = (looked.now, looked.asked_at)
    return judge_ledger(looked, place=place, said=recorded)


async def _check_store(settings: Settings, data: Path, *, others: dict[str, tuple[datetime, datetime]]) -> Finding:
    url = store_url(settings.store.url, data=data)
    try:
        looked = await look_at_store(url)
    except PabalError as error:
        return fail("store", str(error))
    if looked is not None and looked.now is not None and looked.asked_at is not None:
        others["the store's PostgreSQL"] = (looked.now, looked.asked_at)
    return judge_store(looked, place=without_password(url), is_file=not is_postgres(url))


async def _check_providers(settings: Settings, *, url: str) -> list[Finding]:
    findings = []
    channels = tuple(settings.channels)
    if needs_inbox(settings):
        findings.append(_check_inbox(url))
        channels = tuple(name for name in channels if name != "email")
    try:
        carriers = make_carriers(settings, clock=SystemClock(), channels=channels) if channels else {}
    except ConfigError as error:
        return [*findings, fail("providers", str(error))]
    for channel, first in carriers.items():
        for name, carrier in first.by_name.items():
            try:
                findings.append(await _check_provider(carrier.provider, called=f"{channel} by {name}"))
            finally:
                await carrier.provider.close()
    return findings


def _check_inbox(url: str) -> Finding:
    """Where no SMTP server is configured, mail goes to the inbox of `pabal up`, if that can run here."""
    try:
        check_inbox()
    except ConfigError as error:
        return fail("providers", str(error))
    to_inbox = "no SMTP server is configured: `pabal up` catches all mail in its inbox"
    return (ok if url.startswith("sqlite:") else fail)("providers", to_inbox)


async def _check_provider(provider: object, *, called: str) -> Finding:
    if not isinstance(provider, ChecksConnection):
        return ok("providers", f"{called}: configured; it cannot be tried without sending")
    checked = await provider.check()
    if isinstance(checked, Accepted):
        return ok("providers", f"{called}: {checked.response or 'answers'}")
    return fail("providers", f"{called}: {checked.reason}")


def _files(settings: Settings, data: Path, url: str) -> list[Path]:
    """The files that hold addresses or secrets."""
    places = [ledger_setting(settings, data), store_url(settings.store.url, data=data), url]
    files = [Path(each.removeprefix("sqlite:")) for each in places if each and "://" not in each]
    return [*files, data / "development.key", data / "development.toml"]
