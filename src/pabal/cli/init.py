"""`pabal init`: a configuration to start from."""

from pathlib import Path
from typing import Literal

import click

from pabal.cli.options import DEVELOPMENT_FILE, data_option, with_clear_errors
from pabal.cli.starter import (
    development_pair,
    development_starter,
    key_file_of,
    production_starter,
    write_private,
)
from pabal.cli.terminal import say, say_lines
from pabal.compose.roles import ROLES
from pabal.errors import ConfigError


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), default=Path("pabal.toml"))
@click.option(
    "--profile",
    type=click.Choice(("development", "production")),
    default="development",
    show_default=True,
    help="development: for `pabal up` on one machine. production: on Kafka and PostgreSQL, with an SMTP server.",
)
@data_option
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@with_clear_errors
def init(file: Path, profile: Literal["development", "production"], data: Path, *, force: bool) -> None:
    """Write a configuration to start from into FILE (pabal.toml), with an API key and a webhook secret.

    For development: if `pabal up` has made a configuration in the data folder, FILE is a copy of it, with the same key
    and the same secret, and `pabal up --config FILE` goes on as before. The key is kept beside FILE (pabal.key).

    For production: each process reads every address and secret from its environment. The key is shown once.
    """
    if profile == "production":
        _write_production(file, force=force)
    else:
        _write_development(file, data=data, force=force)


def _write_development(file: Path, *, data: Path, force: bool) -> None:
    key_file = key_file_of(file)
    if key_file == file:
        raise ConfigError(f"{file} is where the key would be kept; choose a FILE that does not end in .key")
    _refuse_to_replace(file, key_file, force=force)
    source = data / DEVELOPMENT_FILE
    pair = development_pair(data)
    made = development_starter()
    text, key = (made.text, made.key) if pair is None else pair
    write_private(file, text)
    write_private(key_file, f"{key}\n")
    say(f"wrote {file} (the configuration) and {key_file} (the API key; keep it out of version control)")
    if pair is not None:
        say(f"with all that stands in {source}: the same key, the same webhook secret")
    say_lines(f"\nTake it over:\n\n  pabal up --config {file}")


def _write_production(file: Path, *, force: bool) -> None:
    _refuse_to_replace(file, force=force)
    starter = production_starter()
    write_private(file, starter.text)
    say_lines(f"wrote {file} (the configuration, without a secret)\n")
    say_lines(f"API key, shown once (the file has its hash): {starter.key}\n")
    say_lines("Every process reads these variables; the webhook secret was made now and is shown once:\n")
    for name, example in starter.variables.items():
        say(f"  {name}={example}")
    say_lines("\nThen, once:\n")
    say_lines(f"  pabal topics create --config {file} --replication 3\n  pabal store migrate --config {file}")
    say_lines("\nAnd as many of each as needed:\n")
    for role in ROLES:
        say(f"  pabal {role.name} --config {file}")


def _refuse_to_replace(*files: Path, force: bool) -> None:
    """Raises ConfigError."""
    for file in files:
        if file.exists() and not force:
            raise ConfigError(f"{file} is there already; choose another FILE, or replace what is there with --force")
