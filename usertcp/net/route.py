"""Where a packet goes next, from which of our addresses, and how large it may be.

The table is short: this host itself, the networks of its addresses, and a gateway for the rest. What a path carries
is the link's MTU until an ICMP message says less (RFC 1191); that is remembered per destination for ten minutes
(§6.3), in a bounded table. No routing protocol, no redirects (RFC 1122 §3.2.2.2 is for hosts with several gateways).
"""

from collections import OrderedDict
from typing import Final

from usertcp.net.interface import LOOPBACK, LOOPBACK6, Interface
from usertcp.units import MINUTE

LOOPBACK_MTU: Final = 65535  # bytes: the width of IPv4's Total Length
MIN_MTU: Final = 552  # bytes: nobody talks us below (Linux, min_pmtu); RFC 1191 §3 would allow 68
PMTU_LIFETIME: Final = 10 * MINUTE  # RFC 1191 §6.3
PMTU_ENTRIES: Final = 1024
ROADS: Final = 512  # destinations to which the way is remembered
# RFC 1191 §7: what to try when a router too old to tell says "too big".
PLATEAUS: Final = (32000, 17914, 8166, 4352, 2002, 1492, 1006, MIN_MTU)


class Routes:
    """Next hop, source address and path MTU by destination."""

    __slots__ = ("_gateway", "_interface", "_learned", "_roads", "_source")

    def __init__(self, interface: Interface, gateway: bytes | None) -> None:
        """``gateway`` must be on one of the interface's networks, unless the link has no neighbours: ValueError."""
        self._interface = interface
        self._gateway = gateway
        source = interface.on_link(gateway) if gateway is not None else None
        if gateway is not None and interface.mac and (source is None or gateway in interface.own):
            raise ValueError("the gateway is not on a network of this host")
        self._source = source or interface.primary
        self._roads: dict[bytes, tuple[bytes, bytes]] = {}
        self._learned: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # destination: (MTU, until)

    def road(self, dst: bytes) -> tuple[bytes, bytes] | None:
        """The next hop to ``dst``, and our address to talk to it from; None if there is no route, or ``dst`` is not one
        host's address."""
        known = self._roads.get(dst)
        if known is None:
            hop, source = self.next_hop(dst), self.source(dst)
            if hop is None or source is None or not self._interface.is_unicast(dst):
                return None
            if len(self._roads) >= ROADS:
                self._roads.clear()
            known = self._roads[dst] = hop, source
        return known

    def next_hop(self, dst: bytes) -> bytes | None:
        """The neighbour to hand packets for ``dst`` to: b"" this host itself, None nobody."""
        if self._interface.is_local(dst):
            return b""
        return dst if self._interface.on_link(dst) is not None else self._gateway

    def source(self, dst: bytes) -> bytes | None:
        """Our address to talk to ``dst`` from (RFC 1122 §3.3.4.3); None if there is no route."""
        if self._interface.is_local(dst):
            return LOOPBACK if dst[0] == 127 and dst != LOOPBACK6 else dst
        on_link = self._interface.on_link(dst)
        if on_link is not None:
            return on_link
        return self._source if self._gateway is not None else None

    def mtu(self, dst: bytes, now: int) -> int:
        """The largest packet, in bytes, that the path to ``dst`` is believed to carry."""
        if self._interface.is_local(dst):
            return LOOPBACK_MTU
        learned = self._learned.get(dst)
        if learned is None:
            return self._interface.mtu
        if now >= learned[1]:
            del self._learned[dst]
            return self._interface.mtu
        return learned[0]

    def learn_mtu(self, dst: bytes, mtu: int, now: int) -> int:
        """A router says that it cannot pass on more than ``mtu`` bytes (0: it does not say). Returns what holds now."""
        current = self.mtu(dst, now)
        if mtu == 0:
            mtu = next((plateau for plateau in PLATEAUS if plateau < current), MIN_MTU)
        mtu = max(mtu, min(MIN_MTU, self._interface.mtu))
        if mtu >= current:
            return current
        self._learned[dst] = (mtu, now + PMTU_LIFETIME)
        if len(self._learned) > PMTU_ENTRIES:
            self._learned.popitem(last=False)
        return mtu
