"""The seam between ``net`` and ``link``: what a frame carries beside its bytes, and who takes it.

A frame crosses the seam as one header and a list of payload views, so that a ring's views go to ``writev`` uncopied.
What the two sides tell each other about it (offloads) is a :class:`FrameMeta`; what a device can do is its
:class:`LinkCaps`. Frames and views belong to the caller until the call returns; whoever delays them, copies.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from usertcp.native import mypyc_attr

FLOW_FACTOR: Final = 0x9E3779B1  # 2^32 over the golden ratio: neighbouring ports are spread (Knuth 6.4)


class FrameMeta:
    """What goes with one frame besides its bytes.

    ``gso_size``     payload bytes a segment when the frame is a super-segment, else 0
    ``csum_start``   sending: offset from the start of the frame at which the device is to sum, 0: nothing is asked
    ``csum_offset``  sending: where, from ``csum_start``, the device puts the sum
    ``header_len``   sending a super-segment: bytes of link, IP and TCP header that are repeated in each segment
    ``csum_valid``   receiving: the device vouches for the transport checksum (or it never left this machine)
    ``encoded``      sending: all of this as the device reads it, kept by the link that worked it out first; b"": nobody
                     has yet
    """

    __slots__ = ("csum_offset", "csum_start", "csum_valid", "encoded", "gso_size", "header_len")

    def __init__(
        self,
        gso_size: int = 0,
        csum_start: int = 0,
        csum_offset: int = 0,
        header_len: int = 0,
        csum_valid: bool = False,
    ) -> None:
        self.gso_size = gso_size
        self.csum_start = csum_start
        self.csum_offset = csum_offset
        self.header_len = header_len
        self.csum_valid = csum_valid
        self.encoded = b""


PLAIN: Final = FrameMeta()  # one ordinary frame, its checksums in place; shared, never changed


@dataclass(frozen=True, slots=True)
class LinkCaps:
    """What a link can do.

    ``mtu``           largest IP packet, bytes
    ``mac``           our hardware address (6 bytes); None on a link without Ethernet (TUN), which carries bare packets
    ``tx_checksum``   the device fills in the transport checksum (``FrameMeta.csum_start``)
    ``tx_gso``        the device segments TCP over IPv4 (``FrameMeta.gso_size``)
    ``rx_queue``      segments that the device keeps until they are read; it loses further ones without a word. 0: no
                      bound worth minding, as where a whole burst is one of them
    ``queues``        how many the device has, each served by a stack of its own (:func:`flow_hash`)
    ``queue``         which of them this link is
    ``host``          hardware address of the kernel at the device's other end (b"" without Ethernet), if that takes
                      longer super-segments than the length field of IPv4 can say; None: there is none, or it does not
    """

    mtu: int = 1500
    mac: bytes | None = None
    tx_checksum: bool = False
    tx_gso: bool = False
    rx_queue: int = 0
    queues: int = 1
    queue: int = 0
    host: bytes | None = None

    @property
    def offloads(self) -> str:
        """What the device does for us, in words."""
        if not self.tx_checksum:
            return "none"
        return "checksum, segmentation" if self.tx_gso else "checksum"


def flow_hash(flow: bytes) -> int:
    """16 bits that decide which queue of a device gets a TCP flow: that number modulo the queues.

    ``flow``: source and destination address (IPv4), source and destination port, as in the packet; the other direction
    has the same hash. The device computes it too (``link.steering``).
    """
    addresses = int.from_bytes(flow[:4], "big") ^ int.from_bytes(flow[4:8], "big")
    ports = int.from_bytes(flow[8:10], "big") ^ int.from_bytes(flow[10:12], "big")
    return ((addresses ^ ports) * FLOW_FACTOR & 0xFFFFFFFF) >> 16


NO_MORE: Final = 0  # of ``Run.odd``: nothing waits
NOT_ASKED: Final = -1  # the same: nobody has looked what comes next
UNKNOWN: Final = -1 << 1024  # of ``Run.head``: less than any number of a frame takes away


class Run:
    """Frames that are foretold: their first bytes, each frame's as one number, count up.

    ``front``  room for those bytes; they are there of a frame that was not as foretold
    ``free``   the bits of the number that may be anything, set
    ``head``   the number of the next, with these set, less what depends on its size; or :data:`UNKNOWN`
    ``sizes``  of frames, in bytes: how many are behind the front, what the number of such a one is more than ``head``,
               and what the next one's ``head`` is more

    What :meth:`Source.read_run` found:

    ``count``  frames that were as foretold; ``at``: bytes of them behind their fronts, and ``last``: in the last one
    ``odd``    the size of the frame behind them, which was not; :data:`NO_MORE`; :data:`NOT_ASKED`
    ``its``    what goes with that; ``lead``: the same as a number, which stands in front of that of the first bytes
    """

    __slots__ = ("at", "count", "free", "front", "head", "its", "last", "lead", "odd", "sizes")

    def __init__(self, size: int, free: int) -> None:
        """``size``: how many first bytes."""
        self.front = bytearray(size)
        self.free = free
        self.head = UNKNOWN
        self.sizes: dict[int, tuple[int, int, int]] = {}
        self.count = self.at = self.last = self.lead = 0
        self.odd = NOT_ASKED
        self.its = PLAIN


@mypyc_attr(native_class=False)
class Source(Protocol):
    """Where frames come from (``link.base.Link`` is one, and says more)."""

    def read(self) -> tuple[memoryview, FrameMeta] | None:
        """The next frame and what goes with it, borrowed until the next call; None when nothing waits."""
        ...

    def read_run(self, run: Run, place: memoryview, frames: int, until: int) -> None:
        """Read frames as long as they are as foretold, ``frames`` at most, and while no more than ``until`` bytes of
        them lie in ``place``: what is behind their fronts, one after the other. There is room for one more then. What
        was found is noted in ``run``, also when an OSError is raised."""
        ...

    def rejoin(self, run: Run, place: memoryview) -> memoryview:
        """The frame that was not as foretold, in one piece, borrowed until the next is read. ``place``: that of
        ``read_run``."""
        ...


@mypyc_attr(native_class=False)
class Sink(Protocol):
    """Where frames go out."""

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        """Take one frame. False: not taken (a full queue), and the caller's state is as before."""
        ...
