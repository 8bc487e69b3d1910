"""What names a suppressed address. Pure."""

from pabal.channels.registry import installed_channels


def suppression_key(*, tenant: str, channel: str, address: str) -> bytes:
    """Names a suppression: the key of its record and its row in the gate. `address` is in canonical form.

    Of a channel that is not installed here, an address stands for itself.
    """
    medium = installed_channels().get(channel)
    return f"{tenant}/{channel}/{address if medium is None else medium.suppressed_as(address)}".encode()
