"""Whether a request means this machine: what pages without a login ask first. Pure.

A page of a stranger can let its own name lead to 127.0.0.1 (DNS rebinding), and a browser then lets it read what it
finds there. The `Host` field gives it away: it holds that name. An address, or localhost, cannot be bent.
"""

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether a `Host` field (`localhost:8025`, `127.0.0.1`, `[::1]:8025`) is a name or an address of loopback."""
    name = host_name(host)
    if name is None:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host_name(host: str) -> str | None:
    """The name or address in a `Host` field, in lower case and without the port; None: it cannot be read."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
        name = parts.hostname
    except ValueError:
        return None
    if name is None or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        return None
    return name.rstrip(".")
