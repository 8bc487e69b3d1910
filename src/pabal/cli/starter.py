"""The configuration to start from: what stands in it, and the key that belongs to it.

There are two: `pabal up` writes the development configuration at its first start, and `pabal init` writes either. A
configuration holds only the hash of a key. The key of a development configuration is kept in a file beside it
(`pabal.key` beside `pabal.toml`), so that `pabal up` can print a command that works.
"""

import hashlib
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from pabal.cli.key import as_toml, make_key, make_webhook_secret
from pabal.cli.options import DEVELOPMENT_FILE
from pabal.compose.inbox import DEVELOPMENT_SENDER
from pabal.config import ApiKey, ClassOverrides, Scope, Settings
from pabal.errors import ConfigError
from pabal.groups import ROLE_NAMES
from pabal.notification import CLASSES, RUNGS_SECONDS

FAST_LADDER_SECONDS: Final = (RUNGS_SECONDS[0], RUNGS_SECONDS[0])
"""For `--fast`: the shortest delay that has a topic, twice. Three calls in ten seconds, then a dead letter."""

_DEVELOPMENT_SCOPES: Final[tuple[Scope, ...]] = ("send", "read", "operator")
_PRODUCTION_SCOPES: Final[tuple[Scope, ...]] = ("send", "read")

_DEVELOPMENT = """\
# Pabal for development, on one machine. All settings: docs/configuration.md.
# What begins with # is an example, switched off. Processes read this file when they start.

# templates = "templates"                 # the folder of your templates (docs/templates.md)

# [api]
# port = 8080

# The key behind this hash stands beside this file, in the file of the same name that ends in .key.
{key}

[tenants.dev]
webhook_secrets = ["{secret}"]    # another one: pabal key webhook-secret

[providers.webhook]
allow = ["127.0.0.0/8", "::1/128"]        # may call this machine; without it only public addresses are called

[providers.smtp]                          # as long as it names no host, `pabal up` keeps all mail in its inbox
sender = "{sender}"
# host = "smtp.example.com"
# username = "shop"                       # port 587 and STARTTLS unless port and tls say otherwise
# password = "env:SMTP_PASSWORD"

# [classes.critical]
# ladder_seconds = [5, 30, 120, 600]      # when to try again; to see it all in seconds: pabal up --fast
"""

_PRODUCTION = """\
# Pabal in production: on Kafka and PostgreSQL, mail by an SMTP server. All settings: docs/configuration.md.
# "env:NAME" is read from the environment of each process when it starts, "file:/path" from a file. Give all processes
# (pabal {roles}) the same configuration. What begins with # is an example, switched off.

ledger = "env:PABAL_DATABASE_URL"         # one ledger for all workers (docs/ledger.md)
# templates = "/etc/pabal/templates"      # of the api (docs/templates.md)

[log]
url = "env:PABAL_LOG_URL"                 # the brokers to begin with; once: pabal topics create

# [log.kafka]                             # librdkafka's settings: TLS, SASL (docs/kafka.md)
# "security.protocol" = "SASL_SSL"
# "sasl.mechanism" = "SCRAM-SHA-512"
# "sasl.username" = "pabal"
# "sasl.password" = "env:KAFKA_PASSWORD"

[store]
url = "env:PABAL_DATABASE_URL"            # what happened (docs/store.md); once: pabal store migrate

[api]
host = "0.0.0.0"                          # plain HTTP: put TLS before it
port = 8080

# One for each caller: pabal key new --tenant NAME. Names of tenants are yours to choose.
{key}

[tenants.shop]
webhook_secrets = ["env:SHOP_WEBHOOK_SECRET"]
# quota_per_second = 100

[providers.smtp]
host = "env:SMTP_HOST"
port = 587
tls = "starttls"                          # or "tls", then port 465
username = "env:SMTP_USERNAME"
password = "env:SMTP_PASSWORD"
sender = "env:SMTP_SENDER"
# rate_per_second = 50                    # of all workers together

# [classes.critical]
# ladder_seconds = [5, 30, 120, 600]      # when to try again
"""

_EXAMPLES: Final = {
    "PABAL_LOG_URL": "kafka://kafka-1:9092,kafka-2:9092,kafka-3:9092",
    "PABAL_DATABASE_URL": "postgresql://USER:PASSWORD@HOST/DATABASE",
    "SMTP_HOST": "smtp.example.com",
    "SMTP_USERNAME": "shop",
    "SMTP_PASSWORD": "PASSWORD",
    "SMTP_SENDER": "Shop <noreply@example.com>",
}


class Starter(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration and its key. `variables`: what it reads from the environment, each with an example."""

    text: str
    key: str
    variables: dict[str, str] = {}


def development_starter(*, key: str | None = None) -> Starter:
    """For one machine: mail stays in the inbox, webhooks may call this machine. `key`: use this key, make none."""
    made, entry = make_key("dev", scopes=_DEVELOPMENT_SCOPES)
    if key is not None:
        made, entry = key, ApiKey(tenant="dev", hash=_hash_of(key), scopes=_DEVELOPMENT_SCOPES)
    text = _DEVELOPMENT.format(key=as_toml(entry), secret=make_webhook_secret(), sender=DEVELOPMENT_SENDER)
    return Starter(text=text, key=made)


def production_starter() -> Starter:
    """Kafka, PostgreSQL and SMTP, with every address and secret left to the environment."""
    key, entry = make_key("shop", scopes=_PRODUCTION_SCOPES)
    variables = _EXAMPLES | {"SHOP_WEBHOOK_SECRET": make_webhook_secret()}
    roles = ", ".join(ROLE_NAMES)
    return Starter(text=_PRODUCTION.format(key=as_toml(entry), roles=roles), key=key, variables=variables)


def key_file_of(config: Path) -> Path:
    """Where the key of a development configuration is kept."""
    return config.with_suffix(".key")


def key_beside(config: Path, settings: Settings) -> str | None:
    """The key in the file beside a configuration, if the configuration lets that key send. Raises ConfigError."""
    file = key_file_of(config)
    try:
        key = file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None  # The file may be another key, of a certificate for example, which Pabal need not read.
    if _hash_of(key) not in {entry.hash for entry in settings.api.keys if "send" in entry.scopes}:
        return None
    _keep_private(file)
    return key


def prepare_development(data: Path, *, tell: Callable[[str], None]) -> Path:
    """The development configuration in the data folder: made at the first start, mended where a file is lost.

    `tell` hears what was mended. A new key replaces a lost key, and in the configuration its hash replaces the old
    hash; nothing else there changes. Raises ConfigError.
    """
    config = data / DEVELOPMENT_FILE
    key_file = key_file_of(config)
    text, key = _read(config), _read(key_file)
    if not text:
        starter = development_starter(key=key and key.strip())
        write_private(config, starter.text)
        write_private(key_file, f"{starter.key}\n")
        if key:
            tell(f"{config} was empty or gone: made it anew for the key in {key_file}, with another webhook secret")
    elif not key and (lost := _only_hash(text)):
        key, entry = make_key("dev", scopes=_DEVELOPMENT_SCOPES)
        write_private(config, text.replace(lost, entry.hash))
        write_private(key_file, f"{key}\n")
        tell(f"{key_file} was empty or gone: made another key, whose hash took the old one's place in {config}")
    for file in (config, key_file):
        _keep_private(file)
    return config


def development_pair(data: Path) -> tuple[str, str] | None:
    """The text of the development configuration in the data folder, and its key. None: one of the two is missing."""
    config = data / DEVELOPMENT_FILE
    text, key = _read(config), _read(key_file_of(config))
    return (text, key.strip()) if text and key else None


def quicken(settings: Settings) -> Settings:
    """The settings of `--fast`: every class's ladder is `FAST_LADDER_SECONDS`, all else stays."""
    quick = {
        name: msgspec.structs.replace(settings.classes.get(name, ClassOverrides()), ladder_seconds=FAST_LADDER_SECONDS)
        for name in CLASSES
    }
    return msgspec.structs.replace(settings, classes=quick)


def write_private(file: Path, text: str) -> None:
    """Write a file that only its owner may read: whole or not at all. Raises ConfigError."""
    unfinished = file.with_name(f"{file.name}.unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as writing:
            writing.write(text)
            writing.flush()
            os.fsync(writing.fileno())
        unfinished.replace(file)
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error


def _read(file: Path) -> str | None:
    """What stands in the file; None: nothing but blanks, or no such file. Raises ConfigError."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from error
    return text if text.strip() else None


def _keep_private(file: Path) -> None:
    """Take the file from everyone but its owner, if it is there. Raises ConfigError."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            file.chmod(mode & 0o700)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(f"others may read {file}, and it cannot be changed: {error.strerror}") from error


def _only_hash(text: str) -> str | None:
    """The one key's hash that the configuration holds; None: there are none, or several."""
    hashes = re.findall(r"\b[0-9a-f]{64}\b", text)
    return hashes[0] if len(hashes) == 1 else None


def _hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
