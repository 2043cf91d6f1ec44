"""The head of packets, written once for two addresses: from one segment to the next only a few fields change.

::

    | Ethernet 14 | ver tos | total length | ident | DF | ttl proto | checksum | source | destination |
       the same               ^^^^^^^^^^^^   ^^^^^                    ^^^^^^^^   the same

The IP header's checksum is the sum of what is the same and of the fields that are not; so is the pseudo-header's, of
which only the length changes. A template is good as long as the neighbour's address and the connection's settings are;
who uses it looks at both (:meth:`Template.serves`). It makes the same bytes as :func:`usertcp.wire.ipv4.header`.
"""

import struct
from typing import TYPE_CHECKING, Final

from usertcp.frame import FrameMeta
from usertcp.net.neighbor import Neighbor
from usertcp.wire import ipv4, tcp
from usertcp.wire.ecn import MASK

if TYPE_CHECKING:
    from usertcp.net.flow import Flow
    from usertcp.tcp.config import TcpConfig

_FIELDS: Final = struct.Struct("!HHHHHH")  # the IP header up to its checksum


class Template:
    """``head``: link and IP header, in which :meth:`fill` writes; ``meta`` and ``bursts``: what goes with a segment and
    with a super-segment when the device sums."""

    __slots__ = ("_addresses", "_at", "_life", "_same", "_word", "bursts", "config", "head", "link", "meta", "neighbor")

    def __init__(self, flow: "Flow", config: "TcpConfig", neighbor: Neighbor, link: bytes, start: int) -> None:
        """``link``: the header in front of IP's; ``start``: where in the finished frame TCP's begins."""
        self.config = config
        self.neighbor = neighbor
        self.link = link
        self._at = len(link)
        ip = ipv4.header(flow.local_ip, flow.remote_ip, tcp.PROTOCOL, 0, ttl=config.ttl)
        self.head = bytearray(link + ip)
        self._word = 0x4500 | config.tos & ~MASK
        self._life = config.ttl << 8 | tcp.PROTOCOL
        self._addresses = int.from_bytes(flow.local_ip, "big") + int.from_bytes(flow.remote_ip, "big")
        self._same = self._word + ipv4.DF + self._life + self._addresses + ipv4.HEADER_LEN
        self.meta = FrameMeta(csum_start=start, csum_offset=tcp.CHECKSUM_OFFSET)
        self.bursts = FrameMeta()

    def serves(self, config: "TcpConfig") -> bool:
        """Whether it is right for a connection with the settings ``config``, and for its neighbour as it is now."""
        return self.neighbor.header is self.link and self.config is config

    def fill(self, size: int, ident: int, ecn: int) -> bytearray:
        """The head in front of ``size`` bytes of segment; borrowed until the next call."""
        word = self._word | ecn
        check = 0xFFFF - ((self._same + ecn + size + ident) % 0xFFFF or 0xFFFF)
        _FIELDS.pack_into(self.head, self._at, word, size + ipv4.HEADER_LEN, ident, ipv4.DF, self._life, check)
        return self.head

    def pseudo_sum(self, size: int) -> int:
        """The sum of the pseudo-header of ``size`` bytes of segment (as ``wire.checksum.pseudo_header_sum``)."""
        return (self._addresses + tcp.PROTOCOL + size) % 0xFFFF or 0xFFFF

    def burst(self, gso_size: int, header: int) -> FrameMeta:
        """What goes with a super-segment of ``gso_size`` bytes a segment behind ``header`` bytes of TCP header."""
        meta = self.bursts
        start = self.meta.csum_start
        if meta.gso_size != gso_size or meta.header_len != start + header:
            meta = self.bursts = FrameMeta(gso_size, start, tcp.CHECKSUM_OFFSET, start + header)
        return meta
