"""Which network addresses a request may go to: the table behind the guard against server-side request forgery.

A caller that names a URL could otherwise make Pabal call into the network it stands in: a cloud's metadata service, an
admin page on localhost. The table is written out rather than taken from `ipaddress.is_global`, whose answers differ
between Python releases (CPython issue 113171).

Sources: the IANA special-purpose registries for IPv4 and IPv6 (RFC 6890, RFC 8190), RFC 4291 §2.4, RFC 6598, and
the clouds' documents for the metadata addresses. IPv6 is refused unless it is global unicast (2000::/3) or an IPv4
address behind the well-known NAT64 prefix (RFC 6052), which is judged by that IPv4 address: on a network with DNS64
every IPv4-only endpoint looks like this. The other forms that carry an IPv4 address inside are refused as a whole:
no public endpoint is published under one.
"""

import ipaddress
from collections.abc import Iterable, Sequence

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _table(*rows: tuple[str, str]) -> Sequence[tuple[_Network, str]]:
    """Networks with the words for an address in them; in our spelling, as Python's differs between its releases."""
    return tuple((ipaddress.ip_network(network), f"{kind} address ({network})") for network, kind in rows)


# The first row that matches names the kind, so what is special stands before what is general.
_REFUSED_V4 = _table(
    ("169.254.169.254/32", "cloud metadata"),  # AWS, Google Cloud, Azure, Oracle, DigitalOcean, …
    ("100.100.100.200/32", "cloud metadata"),  # Alibaba Cloud
    ("192.0.0.192/32", "cloud metadata"),  # Oracle Cloud, classic
    ("168.63.129.16/32", "cloud metadata"),  # Azure's host agent: a public address, reachable from inside only
    ("0.0.0.0/8", "unspecified"),  # Linux connects 0.0.0.0 to this host
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "carrier-grade NAT"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
)
_REFUSED_V6 = _table(
    ("fd00:ec2::/32", "cloud metadata"),  # AWS: fd00:ec2::254 and its neighbours for DNS, time and credentials
    ("fd20:ce::254/128", "cloud metadata"),  # Google Cloud
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::ffff:0:0/96", "IPv4-mapped"),
    ("::/96", "IPv4-compatible"),
    ("64:ff9b:1::/48", "local NAT64"),
    ("100::/64", "discard-only"),
    ("2001::/32", "Teredo"),
    ("2001::/23", "reserved"),  # IETF protocol assignments
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("3fff::/20", "documentation"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
EVERYWHERE: Sequence[str] = ("0.0.0.0/0", "::/0")
"""To allow, where the URL is the operator's own and not a caller's: what it names may be called wherever it is."""

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class AddressGuard:
    """Says of an address whether it may be connected to. Pure; safe to share."""

    def __init__(self, *, allow: Iterable[str] = ()) -> None:
        """`allow`: networks (`127.0.0.1/32`, `fd12::/48`) that are fine whatever the table says.

        Raises ValueError, which names what is not a network.
        """
        self._allow = tuple(ipaddress.ip_network(network) for network in allow)

    def refusal(self, address: str) -> str | None:
        """Why an address is refused: its kind and its network (`loopback address (127.0.0.0/8)`). None: it is not.

        What is no IP address in its full spelling is refused too: a socket might resolve it to anything.
        """
        try:
            ip = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return "unreadable address"
        if any(ip in network for network in self._allow):
            return None
        if isinstance(ip, ipaddress.IPv6Address) and ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        table = _REFUSED_V4 if isinstance(ip, ipaddress.IPv4Address) else _REFUSED_V6
        for network, refusal in table:
            if ip in network:
                return refusal
        if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_UNICAST:
            return "reserved address (outside 2000::/3)"
        return None
