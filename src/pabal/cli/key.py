"""`pabal key`: API keys, of which the configuration holds only the hashes, and webhook secrets."""

import hashlib
import secrets
from typing import get_args

import click

from pabal.cli.terminal import say
from pabal.config import ApiKey, Scope
from pabal.webhook_secret import write_secret


@click.group()
def key() -> None:
    """Make API keys, of which the configuration holds only the hashes, and webhook secrets."""


@key.command()
@click.option("--tenant", required=True, help="The tenant of the key, and of everything sent with it.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(get_args(Scope)),
    multiple=True,
    default=("send",),
    show_default=True,
    help="What it may do; may be repeated. `operator`: what `admin` may, and every tenant's dead letters.",
)
def new(tenant: str, scopes: tuple[Scope, ...]) -> None:
    """Make a key: prints it once, and the lines for the configuration.

    The key has 256 random bits, so its plain SHA-256 cannot be reversed by guessing.
    """
    made, entry = make_key(tenant, scopes=scopes)
    say(f"key (shown once, give it to the caller): {made}", err=True)
    for line in as_toml(entry).splitlines():
        say(line)


@key.command(name="webhook-secret")
def webhook_secret() -> None:
    """Make a secret to sign webhooks with, or for a relay to sign its reports with (Standard Webhooks).

    It goes into `[tenants.NAME] webhook_secrets` or a provider's `receipt_secrets`, best as `env:NAME` or `file:PATH`,
    and to whoever verifies the signatures.
    """
    say(make_webhook_secret())


def make_webhook_secret() -> str:
    """A new `whsec_…` of 256 random bits."""
    return write_secret(secrets.token_bytes(32))


def make_key(tenant: str, *, scopes: tuple[Scope, ...]) -> tuple[str, ApiKey]:
    """A new key, and what the configuration keeps of it."""
    made = f"pabal_{secrets.token_urlsafe(32)}"
    return made, ApiKey(tenant=tenant, hash=hashlib.sha256(made.encode()).hexdigest(), scopes=scopes)


NO_KEYS = "no API key is configured, so nobody can send anything; make one with:  pabal key new --tenant NAME"
"""What a process that serves the API says when it starts like that."""


def as_toml(entry: ApiKey) -> str:
    """The entry as it stands in the configuration."""
    scopes = ", ".join(f'"{scope}"' for scope in entry.scopes)
    return f'[[api.keys]]\ntenant = "{entry.tenant}"\nhash = "{entry.hash}"\nscopes = [{scopes}]'
