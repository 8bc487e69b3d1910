import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pabal.providers.addresses import AddressGuard

GUARD = AddressGuard()

REFUSED_V4 = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
]
REFUSED_V6 = [
    "::/96",
    "::ffff:0:0/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/32",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "4000::/2",
    "8000::/1",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
]


@pytest.mark.parametrize(
    ("address", "refusal"),
    [
        ("127.0.0.1", "loopback address (127.0.0.0/8)"),
        ("127.8.9.10", "loopback address (127.0.0.0/8)"),
        ("::1", "loopback address (::1/128)"),
        ("0.0.0.0", "unspecified address (0.0.0.0/8)"),
        ("::", "unspecified address (::/128)"),
        ("10.1.2.3", "private address (10.0.0.0/8)"),
        ("172.31.255.255", "private address (172.16.0.0/12)"),
        ("192.168.1.1", "private address (192.168.0.0/16)"),
        ("fd12:3456::1", "private address (fc00::/7)"),
        ("169.254.1.1", "link-local address (169.254.0.0/16)"),
        ("fe80::1", "link-local address (fe80::/10)"),
        ("fe80::1%eth0", "link-local address (fe80::/10)"),
        ("100.127.255.254", "carrier-grade NAT address (100.64.0.0/10)"),
        ("224.0.0.1", "multicast address (224.0.0.0/4)"),
        ("ff02::1", "multicast address (ff00::/8)"),
        ("255.255.255.255", "reserved address (240.0.0.0/4)"),
        ("169.254.169.254", "cloud metadata address (169.254.169.254/32)"),
        ("fd00:ec2::254", "cloud metadata address (fd00:ec2::/32)"),
        ("fd20:ce::254", "cloud metadata address (fd20:ce::254/128)"),
        ("100.100.100.200", "cloud metadata address (100.100.100.200/32)"),
        ("168.63.129.16", "cloud metadata address (168.63.129.16/32)"),
        ("::ffff:127.0.0.1", "IPv4-mapped address (::ffff:0:0/96)"),
        ("::ffff:8.8.8.8", "IPv4-mapped address (::ffff:0:0/96)"),
        ("::127.0.0.1", "IPv4-compatible address (::/96)"),
        ("2002:7f00:1::", "6to4 address (2002::/16)"),
        ("2001::1", "Teredo address (2001::/32)"),
        ("64:ff9b::127.0.0.1", "loopback address (127.0.0.0/8)"),
        ("64:ff9b::169.254.169.254", "cloud metadata address (169.254.169.254/32)"),
        ("64:ff9b:1::1", "local NAT64 address (64:ff9b:1::/48)"),
        ("4000::1", "reserved address (outside 2000::/3)"),
        ("localhost", "unreadable address"),
        ("127.1", "unreadable address"),
        ("0x7f000001", "unreadable address"),
        ("2130706433", "unreadable address"),
        ("0177.0.0.1", "unreadable address"),
        ("", "unreadable address"),
    ],
)
def test_an_address_that_is_not_public_is_refused_by_its_kind(address: str, refusal: str) -> None:
    assert GUARD.refusal(address) == refusal


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::8.8.8.8", "172.32.0.1"])
def test_a_public_address_is_let_through(address: str) -> None:
    assert GUARD.refusal(address) is None


def test_what_the_operator_allows_is_let_through_and_nothing_beside_it() -> None:
    guard = AddressGuard(allow=["127.0.0.1/32", "::1/128", "fd12::/48"])

    assert [guard.refusal(address) for address in ("127.0.0.1", "::1", "fd12::5")] == [None] * 3

    assert all(guard.refusal(address) for address in ("127.0.0.2", "::ffff:127.0.0.1", "fd13::5", "10.0.0.1"))


@pytest.mark.parametrize("network", ["10.0.0.1/8", "localhost", "10.0.0.0/33"])
def test_what_is_no_network_cannot_be_allowed(network: str) -> None:
    with pytest.raises(ValueError, match=network):
        AddressGuard(allow=["127.0.0.1/32", network])


@given(st.ip_addresses())
def test_whatever_is_let_through_is_global_unicast(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if GUARD.refusal(str(address)) is None:
        assert address.is_global
        assert not address.is_multicast


@given(st.sampled_from([*REFUSED_V4, *REFUSED_V6]).flatmap(lambda network: st.ip_addresses(network=network)))
def test_every_address_of_a_special_network_is_refused(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    assert GUARD.refusal(str(address)) is not None


@given(st.sampled_from(REFUSED_V4).flatmap(lambda network: st.ip_addresses(network=network)), st.integers(0, 2**32 - 1))
def test_no_ipv6_spelling_of_a_refused_ipv4_address_is_let_through(address: ipaddress.IPv4Address, rest: int) -> None:
    inside = int(address)
    spellings = [
        inside,  # IPv4-compatible
        0xFFFF << 32 | inside,  # IPv4-mapped
        0x64_FF9B << 96 | inside,  # NAT64
        0x64_FF9B_0001 << 80 | inside,  # local NAT64
        0x2002 << 112 | inside << 80 | rest,  # 6to4
        0x2001 << 112 | rest << 64 | inside ^ 0xFFFF_FFFF,  # Teredo: the client's address, inverted
        0x2001 << 112 | inside << 64 | rest,  # Teredo: the server's
    ]

    assert all(GUARD.refusal(str(ipaddress.IPv6Address(spelling))) for spelling in spellings)
