"""Where a log, a ledger or a store is: URLs that may hold a password, read and shown without it. Pure.

An error about such a URL never quotes it. What cannot be read may hold the password anywhere, and a driver that gets
it wrong quotes a part of it: so what a driver could misread is refused here, before it is given to one.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from pabal.errors import ConfigError

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_SECRET: Final = re.compile(r"//.*@|\?.*", re.DOTALL)
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00|[\s\x00-\x20\x7f]")
_POSTGRES: Final = re.compile(r"postgres(ql)?://")


def without_password(url: str) -> str:
    """The URL as it may be shown: without the user, the password and the query, which may hold a password as well."""
    return _SECRET.sub(lambda found: "//" if found[0].startswith("//") else "", url)


def is_postgres(url: str) -> bool:
    """Whether it is a PostgreSQL URL."""
    return _POSTGRES.match(url) is not None


def check_database(url: str, *, setting: str) -> None:
    """Refuse what is neither a file (`sqlite:PATH`, a path) nor a PostgreSQL URL that drivers read alike.

    `setting` is its place in the configuration (`$.ledger`). Raises ConfigError, which does not quote the URL.
    """
    expected = "expected sqlite:PATH or postgresql://USER:PASSWORD@HOST/NAME"
    if is_postgres(url):
        _check_postgres(url, setting=setting)
        return
    scheme = _SCHEME.match(url)
    if scheme is not None and (scheme[1] != "sqlite" or url.startswith("sqlite://")):
        raise ConfigError(f"{setting}: {scheme[1]}: is no such place; {expected}")
    if "password=" in url.lower() or "\0" in url or not url.removeprefix("sqlite:"):
        raise ConfigError(f"{setting}: is no path of a file; {expected}")


def _check_postgres(url: str, *, setting: str) -> None:
    # What drivers quote when they find it: half an escape, a NUL, a blank.
    if _BAD_ESCAPE.search(url):
        raise ConfigError(f"{setting}: cannot be read: write % as %25 and a blank as %20")
    authority, _, rest = url.partition("://")[2].partition("/")
    if authority.count("@") > 1 or "@" in rest.partition("?")[0] or "?" in authority.partition("@")[0]:
        raise ConfigError(f"{setting}: cannot be read: in a user or password, write @ as %40, / as %2F and ? as %3F")
    hosts = authority.rpartition("@")[2].partition("?")[0]
    try:
        for host in hosts.split(","):
            _ = urlsplit(f"//{host}").port
    except ValueError:
        raise ConfigError(
            f"{setting}: the host or port cannot be read; write postgresql://USER:PASSWORD@HOST:PORT/NAME"
        ) from None
