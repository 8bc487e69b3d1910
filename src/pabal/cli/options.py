"""What commands share: options, logging, and errors printed as one clear line."""

import asyncio
import contextlib
import functools
import getpass
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from pabal.cli.terminal import harmless, log_to_terminal
from pabal.config import Settings, load_settings
from pabal.errors import ConfigError, PabalError
from pabal.runtime import run

DEVELOPMENT_FILE: Final = "development.toml"
"""The configuration that `pabal up` makes in the data folder."""

F = TypeVar("F", bound=Callable[..., Any])

LOG_URL_HELP = "The log: sqlite:PATH or kafka://HOST:PORT[,HOST:PORT...]. Default: [log] url of the configuration."


PORT = click.IntRange(0, 65535)
"""A port's number; 0: any free one."""

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".pabal"),
    show_default=True,
    envvar="PABAL_DATA",
    help="Folder for the embedded log and the ledger.",
)
by_option = click.option("--by", help="Who does this, for the audit log. Default: the user of the operating system.")
reason_option = click.option("--reason", required=True, help="Why, in your words: kept in the audit log.")


def common_options(command: F) -> F:
    """`--log`, `--config` and `--data`, each also by environment variable."""
    for option in (
        data_option,
        click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            envvar="PABAL_CONFIG",
            help="TOML file with the settings (docs/configuration.md).",
        ),
        click.option("--log", "log_url", envvar="PABAL_LOG", help=LOG_URL_HELP),
    ):
        command = option(command)
    return command


def settings_of(config: Path | None) -> Settings:
    """The settings in the file of `--config`; this process's environment gives the secrets."""
    return load_settings(config, environment=os.environ)


def url_of(log_url: str | None, settings: Settings) -> str:
    """The log's URL: `--log`, else the configuration's. Raises ConfigError when neither says."""
    url = log_url or settings.log.url
    if url is None:
        raise ConfigError(
            "which log? Give --log kafka://HOST:PORT or --log sqlite:PATH (that of `pabal up --data DIR`: DIR/log.db),"
            " or [log] url in --config"
        )
    return url


def settings_here(config: Path | None, data: Path) -> Settings:
    """The settings that `pabal up` works with: without `--config`, the development configuration in the data folder."""
    development = data / DEVELOPMENT_FILE
    return settings_of(development if config is None and development.exists() else config)


def url_here(log_url: str | None, settings: Settings, data: Path) -> str:
    """As `url_of`; when neither says, the embedded log in the folder of `pabal up`. Raises ConfigError without one."""
    if log_url is not None or settings.log.url is not None:
        return url_of(log_url, settings)
    embedded = data / "log.db"
    if not embedded.exists():
        raise ConfigError(
            f"which log? None is in {data}: give --data with the folder of `pabal up`, or --log kafka://HOST:PORT or "
            "--log sqlite:PATH, or [log] url in --config"
        )
    return f"sqlite:{embedded}"


def who_of(by: str | None) -> str:
    """The person for the audit log: `by`, else the operating system's user. Raises ConfigError without either."""
    if by:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise ConfigError(f"who is this? The user {os.getuid()} has no name here; say so with --by NAME") from None


def run_role(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a role until a signal, and log to the terminal. A PabalError becomes one line and exit status 1."""
    log_to_terminal()
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    with clear_errors():
        run(main)


class clear_errors:  # noqa: N801 - reads as a verb where it is used
    """Turn a PabalError, or a group of only PabalErrors, into click's error: one line each, equal lines once."""

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Raise a ClickException instead of an error that Pabal raised on purpose."""
        del kind, traceback
        found = () if error is None else _leaves(error)
        if found and all(isinstance(each, PabalError) for each in found):
            raise click.ClickException(
                "\nError: ".join(dict.fromkeys(harmless(str(each)) for each in found))
            ) from error


def _leaves(error: BaseException) -> Sequence[BaseException]:
    """The error itself, or every error in the group, also in groups within it."""
    if not isinstance(error, BaseExceptionGroup):
        return (error,)
    return [leaf for each in error.exceptions for leaf in _leaves(each)]


@contextlib.contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Work on files of a folder. Raises ConfigError when the system refuses it: no permission, no space, no folder."""
    try:
        yield
    except OSError as error:
        where = error.filename or folder
        raise ConfigError(
            f"cannot use {where}: {error.strerror or error}; choose another folder with --data"
        ) from error


def with_clear_errors(command: F) -> F:
    """`clear_errors` around a whole command."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with clear_errors():
            return command(*args, **kwargs)

    return wrapped  # type: ignore[return-value]
