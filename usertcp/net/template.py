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
from typing import TYPE_CHECKING, Final, TypeAlias

from usertcp.frame import FrameMeta
from usertcp.net.neighbor import Neighbor
from usertcp.wire import ipv4, tcp
from usertcp.wire.checksum import finish, sum_parts
from usertcp.wire.ecn import MASK, NOT_ECT

if TYPE_CHECKING:
    from usertcp.net.flow import Flow
    from usertcp.tcp.config import TcpConfig

_FIELDS: Final = struct.Struct("!HHHHHH")  # the IP header up to its checksum


# Bytes of text, of TCP's header, of text in a segment (0: one); code point of ECN; CWR, if set; whether any was lost.
Kind: TypeAlias = tuple[int, int, int, int, int, bool]


class Template:
    """``head``: link and IP header, ``start`` bytes.

    Of a stream most segments are of one ``kind``, and what follows from that is kept (:meth:`suit`): the ``size`` of
    the frame; ``meta``, which goes with it when the device sums; ``seed``, which stands ``where`` the checksum of TCP
    will, and is what that begins with, the sum of the pseudo-header.
    ``most`` bytes of text, no more, fit a super-segment.
    """

    __slots__ = (
        "_addresses",
        "_at",
        "_bursts",
        "_life",
        "_meta",
        "_same",
        "_word",
        "config",
        "head",
        "kind",
        "link",
        "meta",
        "most",
        "neighbor",
        "seed",
        "size",
        "start",
        "where",
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
        self.where = slice(self.start + tcp.CHECKSUM_OFFSET, self.start + tcp.CHECKSUM_OFFSET + 2)
        self._word = 0x4500 | config.tos & ~MASK
        self._life = config.ttl << 8 | tcp.PROTOCOL
        self._addresses = int.from_bytes(flow.local_ip, "big") + int.from_bytes(flow.remote_ip, "big")
        self._same = self._word + ipv4.DF + self._life + self._addresses
        self.meta = self._meta = FrameMeta(csum_start=start, csum_offset=tcp.CHECKSUM_OFFSET)
        self._bursts = FrameMeta()
        self.most = 0
        self.kind: Kind | None = None
        self.suit(tcp.HEADER_LEN, 0, 0, NOT_ECT)

    def serves(self, config: "TcpConfig") -> bool:
        """Whether it is right for a connection with the settings ``config``, and for its neighbour as it is now."""
        return self.neighbor.header is self.link and self.config is config

    def suit(self, header: int, length: int, gso_size: int, ecn: int) -> None:
        """What comes next has ``header`` bytes of TCP's header and ``length`` of text, and goes as segments of
        ``gso_size`` (0: one)."""
        self.size, self.kind = self.start + header + length, None
        total = self.size - self._at
        total = total if total <= 0xFFFF else 0  # "as long as the frame"
        check = 0xFFFF - ((self._same + total + ecn) % 0xFFFF or 0xFFFF)
        _FIELDS.pack_into(self.head, self._at, self._word | ecn, total, 0, ipv4.DF, self._life, check)
        self.seed = ((self._addresses + tcp.PROTOCOL + header + length) % 0xFFFF or 0xFFFF).to_bytes(2, "big")
        self.meta = self._meta
        if gso_size:
            start = self._meta.csum_start
            if self._bursts.gso_size != gso_size or self._bursts.header_len != start + header:
                self._bursts = FrameMeta(gso_size, start, tcp.CHECKSUM_OFFSET, start + header)
            self.meta = self._bursts

    def finish(self, frame: bytearray, payload: list[memoryview]) -> None:
        """Sum up ``frame``, which has ``seed`` where it belongs: the device does not."""
        header = int.from_bytes(frame[self.start :], "big")
        frame[self.where] = finish(sum_parts(payload, header)).to_bytes(2, "big")
