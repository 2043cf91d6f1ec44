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
    """``head``: link and IP header, in which :meth:`fill` writes.

    Of a stream most segments are of one size, and what follows from that is kept (:meth:`suit`): ``size`` bytes with
    the TCP header, which has ``header``, cut by the device to ``gso_size`` bytes of text (0: not), which makes
    ``segments``; ``pseudo_sum``, the sum of the pseudo-header (as ``wire.checksum.pseudo_header_sum``), two bytes;
    ``meta``, what goes with it when the device sums.
    """

    __slots__ = (
        "_addresses",
        "_at",
        "_bursts",
        "_life",
        "_meta",
        "_same",
        "_sum",
        "_word",
        "config",
        "gso_size",
        "head",
        "header",
        "link",
        "meta",
        "neighbor",
        "pseudo_sum",
        "segments",
        "size",
    )

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
        self.meta = self._meta = FrameMeta(csum_start=start, csum_offset=tcp.CHECKSUM_OFFSET)
        self._bursts = FrameMeta()
        self.suit(tcp.HEADER_LEN, 0, tcp.HEADER_LEN)

    def serves(self, config: "TcpConfig") -> bool:
        """Whether it is right for a connection with the settings ``config``, and for its neighbour as it is now."""
        return self.neighbor.header is self.link and self.config is config

    def suit(self, size: int, gso_size: int, header: int) -> None:
        """What follows has ``size`` bytes, ``header`` of them TCP's, and goes as segments of ``gso_size`` (0: one)."""
        self.size, self.gso_size, self.header = size, gso_size, header
        self._sum = self._same + size
        pseudo = (self._addresses + tcp.PROTOCOL + size) % 0xFFFF or 0xFFFF
        self.pseudo_sum = pseudo.to_bytes(2, "big")
        self.segments = 1
        self.meta = self._meta
        if gso_size:
            self.segments = -(-(size - header) // gso_size)
            start = self._meta.csum_start
            if self._bursts.gso_size != gso_size or self._bursts.header_len != start + header:
                self._bursts = FrameMeta(gso_size, start, tcp.CHECKSUM_OFFSET, start + header)
            self.meta = self._bursts

    def fill(self, ident: int, ecn: int) -> bytearray:
        """The head in front of ``size`` bytes of segment; borrowed until the next call."""
        check = 0xFFFF - ((self._sum + ecn + ident) % 0xFFFF or 0xFFFF)
        head = self.head
        _FIELDS.pack_into(
            head, self._at, self._word | ecn, self.size + ipv4.HEADER_LEN, ident, ipv4.DF, self._life, check
        )
        return head
