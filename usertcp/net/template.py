"""The head of packets, written once for two addresses: from one segment to the next only a few fields change.

::

    | Ethernet 14 | ver tos | total length | 0 | DF | ttl proto | checksum | source | destination |
       the same               ^^^^^^^^^^^^    the same             ^^^^^^^^   the same

The IP header's checksum is the sum of what is the same and of the fields that are not; so is the pseudo-header's, of
which only the length changes. The identification is nobody's: what is never cut needs none (RFC 6864 §4.1), and a count
that all packets share would tell a stranger whose pings are answered how many challenge ACKs his guesses at others'
connections have cost. A template is good as long as the neighbour's address and the connection's settings are;
who uses it looks at both (:meth:`Template.serves`). It makes the same bytes as :func:`usertcp.wire.ipv4.header`.
"""

import struct
from typing import TYPE_CHECKING, Final

from usertcp.frame import FrameMeta
from usertcp.net.neighbor import Neighbor
from usertcp.wire import ipv4, tcp
from usertcp.wire.checksum import finish, sum_parts
from usertcp.wire.ecn import MASK

if TYPE_CHECKING:
    from usertcp.net.flow import Flow
    from usertcp.tcp.config import TcpConfig

_FIELDS: Final = struct.Struct("!HHHHHH")  # the IP header up to its checksum
_SUM: Final = struct.Struct("!H")


class Template:
    """``head``: link and IP header, ``start`` bytes, of which :meth:`fill` fills a copy in.

    Of a stream most segments are of one size, and what follows from that is kept (:meth:`suit`): ``size`` bytes of
    frame, ``header`` of them in front of the text, which the device cuts to pieces of ``gso_size`` bytes (0: not).
    ``meta`` is what goes with it when the device sums.
    ``most`` bytes of text, no more, fit a super-segment.
    """

    __slots__ = (
        "_addresses",
        "_at",
        "_bursts",
        "_life",
        "_meta",
        "_pseudo",
        "_same",
        "_sum",
        "_sum_at",
        "_total",
        "_word",
        "config",
        "gso_size",
        "head",
        "header",
        "link",
        "meta",
        "most",
        "neighbor",
        "size",
        "start",
    )

    def __init__(self, flow: "Flow", config: "TcpConfig", neighbor: Neighbor, link: bytes, start: int) -> None:
        """``link``: the header in front of IP's, as far as it is known; ``start``: where in the finished frame TCP's
        begins."""
        self.config = config
        self.neighbor = neighbor
        self.link = link
        self._at = len(link)
        ip = ipv4.header(flow.local_ip, flow.remote_ip, tcp.PROTOCOL, 0, ttl=config.ttl)
        self.head = bytearray(link + ip)
        self.start = len(self.head)
        self._sum_at = self.start + tcp.CHECKSUM_OFFSET
        self._word = 0x4500 | config.tos & ~MASK
        self._life = config.ttl << 8 | tcp.PROTOCOL
        self._addresses = int.from_bytes(flow.local_ip, "big") + int.from_bytes(flow.remote_ip, "big")
        self._same = self._word + ipv4.DF + self._life + self._addresses
        self.meta = self._meta = FrameMeta(csum_start=start, csum_offset=tcp.CHECKSUM_OFFSET)
        self._bursts = FrameMeta()
        self.most = 0
        header = self.start + tcp.HEADER_LEN
        self.suit(header, 0, header)

    def serves(self, config: "TcpConfig") -> bool:
        """Whether it is right for a connection with the settings ``config``, and for its neighbour as it is now."""
        return self.neighbor.header is self.link and self.config is config

    def suit(self, size: int, gso_size: int, header: int) -> None:
        """What comes next has ``size`` bytes, ``header`` of them in front of the text, and goes as segments of
        ``gso_size`` (0: one)."""
        self.size, self.gso_size, self.header = size, gso_size, header
        total = size - self._at
        self._total = total if total <= 0xFFFF else 0  # "as long as the frame"
        self._sum = self._same + self._total
        self._pseudo = (self._addresses + tcp.PROTOCOL + size - self.start) % 0xFFFF or 0xFFFF
        self.meta = self._meta
        if gso_size:
            start = self._meta.csum_start
            front = start + header - self.start
            if self._bursts.gso_size != gso_size or self._bursts.header_len != front:
                self._bursts = FrameMeta(gso_size, start, tcp.CHECKSUM_OFFSET, front)
            self.meta = self._bursts

    def fill(self, frame: bytearray, ecn: int) -> None:
        """Make the beginning of ``frame``, a copy of ``head`` and a TCP header, that in front of ``size`` bytes. The
        checksum of TCP begins with the sum of the pseudo-header (``wire.checksum.pseudo_header_sum``)."""
        check = 0xFFFF - ((self._sum + ecn) % 0xFFFF or 0xFFFF)
        _FIELDS.pack_into(frame, self._at, self._word | ecn, self._total, 0, ipv4.DF, self._life, check)
        _SUM.pack_into(frame, self._sum_at, self._pseudo)

    def finish(self, frame: bytearray, payload: list[memoryview]) -> None:
        """Sum up what :meth:`fill` has filled in: the device does not."""
        header = int.from_bytes(frame[self.start :], "big")
        _SUM.pack_into(frame, self._sum_at, finish(sum_parts(payload, header)))
