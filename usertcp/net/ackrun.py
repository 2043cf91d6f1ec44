"""A run of acknowledgments: of several that wait one behind the other, the last one says what all of them say.

A peer that takes super-segments acknowledges nearly each of them, and while we send, some of these wait. Each is a
round trip measured, a congestion window grown and timers set again, for nothing: a segment without text, in order,
which acknowledges more than the one before it, makes that one superfluous, as if the peer had waited with its answer
(a stretch ACK; receivers that merge segments send those, too). Only while nothing is the matter with the connection:
as soon as there are losses, doubts or marks, each counts by itself.

Here frames are only compared. The last of a run, if it is what its connection expects, is taken at once: what there is
to be seen of it was seen when it was found to be one of the run. Else it goes the way of any other.
"""

from collections.abc import Callable
from struct import Struct
from typing import Final, TypeAlias

from usertcp.net.burst import Followed, Frame
from usertcp.net.flow import Flow
from usertcp.net.stats import Stats
from usertcp.tcp.connection import Connection
from usertcp.tcp.predicted import may_skip, take_answer
from usertcp.units import MASK32
from usertcp.wire import ethernet, ipv4, tcp

Read: TypeAlias = Callable[[], Frame | None]

LONGEST: Final = 28  # acknowledgments of a run that are passed over, at most
AHEAD: Final = LONGEST + 4  # frames that may yet be read when a run begins: whoever reads ahead is asked again
_FIELDS: Final = "H 4s H 16s I H H 4x I I 4x"  # from the identification on, without TCP's checksum and the echo
_LEN: Final = ipv4.HEADER_LEN + tcp.HEADER_LEN + tcp.TIMESTAMPS_LEN
_WORD: Final = tcp.HEADER_LEN + tcp.TIMESTAMPS_LEN << 10 | tcp.ACK  # data offset and flags
_HALF: Final = 1 << 31


class AckRuns:
    """``size``: bytes of a frame that may be one of a run; ``ahead``: what was read too far, and comes next: a frame,
    or None, for nothing waits; mostly empty."""

    __slots__ = ("_flows", "_ip", "_is_ours", "_stats", "_unpack", "ahead", "size")

    def __init__(
        self, mac: bytes, flows: dict[bytes, Connection], stats: Stats, is_ours: Callable[[bytes, bytes], bool]
    ) -> None:
        """``mac``: our hardware address; b"": frames are bare IP packets. ``is_ours``: whether what stands in front of
        a frame's length, and between identification and checksum, is in order (``shortcut``)."""
        self._ip = ethernet.HEADER_LEN if mac else 0
        self._unpack = Struct(f"! {self._ip + 4}s {_FIELDS}").unpack
        self._flows = flows
        self._is_ours = is_ours
        self._stats = stats
        self.ahead: list[Frame | None] = []
        self.size = self._ip + _LEN

    def last(self, first: Frame, read: Read, clock: Callable[[], int], count: int, octets: int) -> Followed:
        """Take the run that begins with ``first``, a frame of ``size`` bytes: the frame that comes next (None: nothing
        waits), or the last of the run; ``count`` and ``octets`` and what those add to them that need no looking at."""
        view, meta = first
        head, ident, middle, check, ends, ack, word, wnd, kind, tsval = self._unpack(view)
        conn = self._flows.get(ends[:12])
        if (
            conn is None
            or word != _WORD
            or kind != tcp.NOP_NOP_TS
            or not meta.csum_valid
            or int.from_bytes(head[-2:], "big") != _LEN
            or int.from_bytes(view[self._ip : self._ip + ipv4.HEADER_LEN], "big") % 0xFFFF  # the IPv4 header's sum
            or not may_skip(conn, int.from_bytes(ends[12:], "big"), ack, tsval)
        ):
            return first, count, octets, False
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
                head, ident, middle, check, ends, later, word, field, kind, stamp = unpack(view)
                more = later - ack & MASK32
                if (
                    (head, middle, ends, word, kind) != same
                    or (ident + check - total) % 0xFFFF
                    or not 0 < more <= left
                    or stamp - tsval & MASK32 >= _HALF
                ):
                    break
                ack, tsval, wnd = later, stamp, field
                left -= more
                skipped += 1
            else:
                return got, count + skipped, octets + skipped * size, False
        except OSError:  # the device has lost a frame, or is gone: first what was there
            self.ahead.append((memoryview(last), meta))
            raise
        finally:
            if skipped:
                conn.segments_in += skipped
                self._count(skipped)
        flow: Flow = conn.flow
        if (
            skipped
            and not flow.queued
            and self._is_ours(same[0][:-2], same[1])
            and take_answer(conn, int.from_bytes(same[2][12:], "big"), ack, wnd, tsval, flow.wake, clock())
        ):
            self._count(1)
            return got, count + skipped + 1, octets + (skipped + 1) * size, got is None
        self.ahead.append(got)
        return (memoryview(last), meta), count + skipped, octets + skipped * size, False

    def _count(self, frames: int) -> None:
        stats = self._stats
        stats.frames_in += frames
        stats.segments_in += frames
        stats.bytes_in += frames * self.size
