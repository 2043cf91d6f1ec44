"""The host's one interface: its addresses and hardware address, and what can be told of an address from them alone.

An IPv4 address with its prefix makes a network; the all-zeros and all-ones hosts of it are broadcasts (RFC 1122
§3.2.1.3; not on /31 and /32, RFC 3021). 127/8 belongs to every host and never appears on a wire. Not here: where to
send what is not on one of our networks, which is ``net.route``.
"""

import ipaddress
from collections.abc import Iterable
from typing import Final

from usertcp.frame import LinkCaps
from usertcp.wire.ipv4 import ANY, LIMITED_BROADCAST

RESERVED: Final = 240  # 240.0.0.0/4, class E: no source, and no destination but 255.255.255.255 (RFC 1122 §3.2.1.3)
LOOPBACK: Final = bytes((127, 0, 0, 1))
LOOPBACK6: Final = bytes((127, 255, 255, 6))  # stands for ::1 as long as there is no IPv6; no part of the wildcard


class Interface:
    """Addresses as 4 bytes. ``mac`` is b"" on a link without Ethernet; ``mtu`` is the largest IP packet, bytes."""

    __slots__ = ("broadcasts", "mac", "mtu", "networks", "own", "primary")

    def __init__(self, addresses: Iterable[str], caps: LinkCaps) -> None:
        """``addresses`` as "10.9.0.2/24" (no prefix: /32); ValueError if one is malformed, or there is none."""
        parsed = [ipaddress.IPv4Interface(address) for address in addresses]
        if not parsed:
            raise ValueError("an interface needs an address")
        self.mac: Final = caps.mac or b""
        self.mtu: Final = caps.mtu
        self.primary: Final = parsed[0].ip.packed
        self.own: Final = frozenset(each.ip.packed for each in parsed)
        # (network, mask, our address in it), the longest prefix first.
        self.networks: Final = sorted(
            ((int(each.network.network_address), int(each.netmask), each.ip.packed) for each in parsed),
            key=lambda network: -network[1],
        )
        wide = [each.network for each in parsed if each.network.prefixlen < 31]
        self.broadcasts: Final = frozenset(
            [LIMITED_BROADCAST]
            + [network.broadcast_address.packed for network in wide]
            + [network.network_address.packed for network in wide]
        )

    def is_local(self, ip: bytes) -> bool:
        """Whether packets to ``ip`` never leave this host."""
        return ip in self.own or ip[0] == 127

    def on_link(self, ip: bytes) -> bytes | None:
        """Our address on the network that ``ip`` is on; None if it is on none of ours."""
        number = int.from_bytes(ip, "big")
        for network, mask, address in self.networks:
            if number & mask == network:
                return address
        return None

    def is_group(self, ip: bytes) -> bool:
        """Whether ``ip`` is a multicast or a broadcast address here."""
        return ip in self.broadcasts or ip[0] >> 4 == 14

    def is_unicast(self, ip: bytes) -> bool:
        """Whether one host can have the address ``ip``: a destination for a connection (RFC 9293 §3.9.1.1, MUST-46)."""
        return ip != ANY and ip[0] != 0 and ip[0] < 224 and ip not in self.broadcasts

    def is_foreign(self, ip: bytes) -> bool:
        """Whether a packet from the wire may have this source: unicast, not ourselves (RFC 9293 §3.9.2.3, MUST-63)."""
        return self.is_unicast(ip) and ip[0] != 127 and ip not in self.own
