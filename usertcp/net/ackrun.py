"""A run of acknowledgments: of several that wait one behind the other, the last one says what all of them say.

A peer that takes super-segments acknowledges nearly each of them, and while we send, some of these wait. Each is a
round trip measured, a congestion window grown and timers set again, for nothing: a segment without text, in order,
which acknowledges more than the one before it, makes that one superfluous, as if the peer had waited with its answer
(a stretch ACK; receivers that merge segments send those, too). Only while nothing is the matter with the connection:
as soon as there are losses, doubts or marks, each counts by itself.

Here frames are only compared. The last of a run goes the way of any other.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final, TypeAlias

from usertcp.frame import FrameMeta
from usertcp.net.stats import Stats
from usertcp.tcp.connection import Connection
from usertcp.tcp.predicted import may_skip
from usertcp.units import MASK32
from usertcp.wire import ethernet, ipv4, tcp

Frame: TypeAlias = tuple[memoryview, FrameMeta]
Read: TypeAlias = Callable[[], Frame | None]
Followed: TypeAlias = tuple[Frame | None, int, int]

LONGEST: Final = 28  # acknowledgments of a run that are passed over, at most
AHEAD: Final = LONGEST + 4  # frames that may yet be read when a run begins: whoever reads ahead is asked again
_FIELDS: Final = "H 4s H 16s I H 6x I I 4x"  # from the identification on, without window, TCP's checksum and echo
_LEN: Final = ipv4.HEADER_LEN + tcp.HEADER_LEN + tcp.TIMESTAMPS_LEN
_WORD: Final = tcp.HEADER_LEN + tcp.TIMESTAMPS_LEN << 10 | tcp.ACK  # data offset and flags
_HALF: Final = 1 << 31


class AckRuns:
    """``size``: bytes of a frame that may be one of a run; ``ahead``: what was read too far, and comes next: a frame,
    or None, for nothing waits; mostly empty."""

    __slots__ = ("_flows", "_ip", "_stats", "_unpack", "ahead", "size")

    def __init__(self, mac: bytes, flows: dict[bytes, Connection], stats: Stats) -> None:
        """``mac``: our hardware address; b"": frames are bare IP packets."""
        self._ip = ethernet.HEADER_LEN if mac else 0
        self._unpack = Struct(f"! {self._ip + 4}s {_FIELDS}").unpack
        self._flows = flows
        self._stats = stats
        self.ahead: list[Frame | None] = []
        self.size = self._ip + _LEN

    def last(self, first: Frame, read: Read, count: int, octets: int) -> Followed:
        """The last of the run that begins with ``first``, a frame of ``size`` bytes; ``count`` and ``octets`` and what
        the others of the run add to them."""
        view, meta = first
        head, ident, middle, check, ends, ack, word, kind, tsval = self._unpack(view)
        conn = self._flows.get(ends[:12])
        if (
            conn is None
            or word != _WORD
            or kind != tcp.NOP_NOP_TS
            or not meta.csum_valid
            or int.from_bytes(head[-2:], "big") != _LEN
            or not self._is_sound(view)
            or not may_skip(conn, int.from_bytes(ends[12:], "big"), ack, tsval)
        ):
            return first, count, octets
        same, total = (head, middle, ends, word, kind), ident + check
        size, unpack, left, skipped = self.size, self._unpack, conn.snd.nxt - conn.snd.una, 0
        left -= ack - conn.snd.una & MASK32
        got: Frame | None
        try:
            while skipped < LONGEST:
                last = bytes(view)
                got = read()
                if got is None:
                    break
                view = got[0]
                if len(view) != size or not got[1].csum_valid:
                    break
                head, ident, middle, check, ends, later, word, kind, stamp = unpack(view)
                more = later - ack & MASK32
                if (
                    (head, middle, ends, word, kind) != same
                    or (ident + check - total) % 0xFFFF
                    or not 0 < more <= left
                    or stamp - tsval & MASK32 >= _HALF
                ):
                    break
                ack, tsval = later, stamp
                left -= more
                skipped += 1
            else:
                return got, count + skipped, octets + skipped * size
        except OSError:  # the device has lost a frame, or is gone: first what was there
            self.ahead.append((memoryview(last), meta))
            raise
        finally:
            if skipped:
                conn.segments_in += skipped
                stats = self._stats
                stats.frames_in += skipped
                stats.segments_in += skipped
                stats.bytes_in += skipped * size
        self.ahead.append(got)
        return (memoryview(last), meta), count + skipped, octets + skipped * size

    def _is_sound(self, view: memoryview) -> bool:
        """Whether the IPv4 header, which is known to be one, sums up."""
        at = self._ip
        return not int.from_bytes(view[at : at + ipv4.HEADER_LEN], "big") % 0xFFFF
