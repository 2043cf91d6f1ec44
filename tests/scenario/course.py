"""A bulk sender over minutes of virtual time, and across a path with one bottleneck a peer that answers honestly.

For the scripts about congestion control, where one window says little and a thousand are too many to write by hand::

    c = Course("cubic", rtt=200 * MS, gap=4 * MS, queue=50)
    c.run(60 * SEC, lambda: windows.append(c.cc.cwnd))

The path delivers in order; each thing that arrives is acknowledged at once, with SACK. There is no chance in it.
"""

from collections import deque
from collections.abc import Callable

from tests.support.script import IRS, ISS, Script
from usertcp.tcp.cc.base import CongestionControl
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.ranges import RangeSet
from usertcp.tcp.recovery import PHASES
from usertcp.units import MASK32, NEVER
from usertcp.wire import tcp as wire

CHUNK = bytes(1 << 20)
SCALE = 10  # of the peer's window, which is never the limit


class Course(Script):
    """``rtt``   the round trip without a queue, ns: may change on the way
    ``gap``      what a segment takes of the bottleneck, ns; 0: there is none, and bursts stay whole
    ``queue``    segments that wait there at most
    ``lose``     numbers of segments that are lost when they come first
    ``bulk``     the user writes without end

    ``dropped``  the numbers of those that found the queue full; ``left``: when each burst left, and its bytes
    """

    def __init__(
        self, congestion: str, *, rtt: int, gap: int = 0, queue: int = 1 << 30, mss: int = 1000, buffer: int = 4 << 20
    ) -> None:
        config = TcpConfig(
            timestamps=False,
            receive_buffer=65535,
            receive_buffer_max=0,
            send_buffer=buffer,
            send_buffer_max=0,
            congestion=congestion,
        )
        super().__init__(config)
        self.rtt = rtt
        self.gap = gap
        self.queue = queue
        self.mss = mss
        self.lose: set[int] = set()
        self.bulk = True
        self.dropped: list[int] = []
        self.left: list[tuple[int, int]] = []
        self._got = RangeSet()
        self._recent: list[int] = []  # where the last ones arrived that were not next, the newest first
        self._free_at = 0  # when the bottleneck has sent what waits
        self._acks: deque[tuple[int, wire.Segment]] = deque()  # on their way back, and when they are there
        self._playing = False
        self.user.open(self.now)
        self.poll()
        self.advance(rtt)
        self.peer(f"S. 0:0(0) ack 1 win 65535 <mss {mss},nop,nop,sackOK,nop,wscale {SCALE}>")
        self.take()
        self._playing = True

    @property
    def cc(self) -> CongestionControl:
        return self.user.snd.cc

    @property
    def cwnd(self) -> float:
        """In segments."""
        return self.cc.cwnd / self.mss

    @property
    def phase(self) -> str:
        return PHASES[self.user.snd.phase]

    # --- the path ----------------------------------------------------------------------------------------------------

    def send(
        self, conn: Connection, header: bytearray, payload: list[memoryview], length: int, gso_size: int, ecn: int
    ) -> bool:
        if not self._playing:
            return super().send(conn, header, payload, length, gso_size, ecn)
        start = int.from_bytes(header[4:8]) - ISS - 1 & MASK32
        end = start + length
        self.left.append((self.now, length))
        whole = not self.gap and not any(start <= number * self.mss < end for number in self.lose)
        step = length if whole else self.mss
        for at in range(start, end, step):
            self._cross(at, min(at + step, end))
        return True

    def _cross(self, start: int, end: int) -> None:
        number = start // self.mss
        if number in self.lose:
            self.lose.remove(number)
            return
        wait = max(self._free_at - self.now, 0)
        if self.gap and wait > self.queue * self.gap:
            self.dropped.append(number)
            return
        self._free_at = self.now + wait + self.gap
        there = self._free_at + self.rtt
        if self._acks:
            there = max(there, self._acks[-1][0])  # the path keeps the order, though it became shorter
        self._acks.append((there, self._answer(start, end)))

    def _answer(self, start: int, end: int) -> wire.Segment:
        """The peer's ACK for [start, end): it will be right when that arrives, since nothing is overtaken."""
        got = self._got
        blocks = []
        if not got.add(start, end):
            blocks.append((start, end))  # RFC 2883 §4
        first = got.first
        upto = first[1] if first is not None and not first[0] else 0
        if start > upto:
            self._recent.insert(0, start)
        for at in self._recent:
            block = got.around(at)
            assert block is not None
            if block[0] > upto and block not in blocks:
                blocks.append(block)
        self._recent = [block[0] for block in blocks if block[0] > upto][:4]
        options = wire.NO_OPTIONS
        if blocks:
            options = wire.Options(sack=tuple((_wire(a), _wire(b)) for a, b in blocks[:4]))
        return wire.Segment(80, 1000, IRS + 1, _wire(upto), wire.ACK, 65535, options=options)

    # --- the clock ---------------------------------------------------------------------------------------------------

    def run(self, duration: int, watch: Callable[[], None] | None = None) -> None:
        """Let ``duration`` ns pass; ``watch`` is called whenever something happened."""
        until = self.now + duration
        self._supply()
        while True:
            back = self._acks[0][0] if self._acks else NEVER
            deadline = self.user.next_deadline()
            when = min(back, deadline)
            if when > until:
                break
            self.now = max(self.now, when)
            if deadline < back:
                self.user.on_timers(self.now)
            else:
                self.user.on_segment(self._acks.popleft()[1], self.now)
            self._supply()
            if watch is not None:
                watch()
        self.now = until

    def run_until(self, done: Callable[[], bool], limit: int) -> None:
        """Until ``done``, looked at a thousand times within ``limit`` ns."""
        end = self.now + limit
        while not done():
            assert self.now < end, "it does not come to that"
            self.run(limit // 1000)

    def _supply(self) -> None:
        """The user writes as much as is taken."""
        if self.bulk:
            while self.user.writable and self.user.write(CHUNK):
                pass
        while self.poll():
            pass


def _wire(offset: int) -> int:
    return (ISS + 1 + offset) & MASK32
