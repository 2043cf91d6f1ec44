"""Addresses: what is ours, on our networks, for many, or impossible."""

import pytest

from usertcp.frame import LinkCaps
from usertcp.net.interface import Interface
from usertcp.wire.ipv4 import pack


def interface(*addresses: str) -> Interface:
    return Interface(addresses, LinkCaps(mac=b"\x02" * 6))


def test_no_address_made_raises() -> None:
    with pytest.raises(ValueError, match="needs an address"):
        interface()


def test_bad_address_made_raises() -> None:
    with pytest.raises(ValueError, match="300"):
        interface("10.9.0.300/24")


def test_two_networks_on_link_longest_prefix_first() -> None:
    iface = interface("10.9.0.2/16", "10.9.7.2/24")
    assert iface.on_link(pack("10.9.7.9")) == pack("10.9.7.2")
    assert iface.on_link(pack("10.9.8.9")) == pack("10.9.0.2")
    assert iface.on_link(pack("10.10.0.1")) is None


@pytest.mark.parametrize("ip", ["10.9.0.255", "10.9.0.0", "255.255.255.255", "224.0.0.1", "239.1.2.3"])
def test_group_address_asked_is_group_and_no_unicast(ip: str) -> None:
    iface = interface("10.9.0.2/24")
    assert iface.is_group(pack(ip))
    assert not iface.is_unicast(pack(ip))


def test_point_to_point_network_has_no_broadcast() -> None:
    iface = interface("10.9.0.2/31")
    assert iface.is_unicast(pack("10.9.0.3"))
    assert not iface.is_group(pack("10.9.0.3"))


@pytest.mark.parametrize("ip", ["0.0.0.0", "0.1.2.3", "127.0.0.1", "240.0.0.1", "10.9.0.255", "10.9.0.2"])
def test_impossible_source_asked_is_not_foreign(ip: str) -> None:
    assert not interface("10.9.0.2/24").is_foreign(pack(ip))


def test_every_loopback_and_own_address_is_local() -> None:
    iface = interface("10.9.0.2/24", "10.9.0.3/24")
    assert all(iface.is_local(pack(ip)) for ip in ("127.0.0.1", "127.9.9.9", "10.9.0.2", "10.9.0.3"))
    assert not iface.is_local(pack("10.9.0.4"))
