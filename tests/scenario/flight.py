"""A sender in mid-flow with its peer across a path, for the scripts about losses.

Data goes in full segments of 1000 bytes, and a script names them by number: segment 0 is the first ever sent. The
peer's ACKs can be written by hand::

    s = Flight.of(20)                      # twenty segments are out, and more waits
    s.ack(0, (1, 2))                       # segment 1 is reported by SACK, segment 0 is missing: what leaves on that
    s.ack(5, (3, 4))                       # all up to 5 are acknowledged, and 3 was received twice (DSACK)

or be left to ``deliver``, a path with a peer that reports honestly what reaches it.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Self

from tests.support.board import check_board
from tests.support.script import ISS, START, Script, with_options
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.recovery import PHASES
from usertcp.units import MASK32, MS, NEVER

MSS = 1000
RTT = 100 * MS
GAP = 1 * MS  # between two segments that the path delivers
CONFIG = with_options(sack=True, send_buffer=4 << 20)


def edge(number: int, mss: int = MSS) -> int:
    """The relative sequence number at which segment ``number`` begins."""
    return 1 + number * mss


class Flight(Script):
    """See the module's text. ``size``: of a segment; ``heard``: what the peer has, by number, as it reports it."""

    size: int = MSS

    @classmethod
    def of(
        cls,
        out: int,
        *,
        more: int = 1000,
        sack: bool = True,
        timestamps: bool = False,
        mss: int = MSS,
        rtt: int = RTT,
        win: int = 65535,
        config: TcpConfig = CONFIG,
        **kwargs: Any,
    ) -> Self:
        """ESTABLISHED over a path of ``rtt`` ns. ``out`` segments leave at once; they fill the congestion window, and
        slow start is over. ``more`` segments wait to be sent."""
        s = cls(replace(config, sack=sack, timestamps=timestamps), **kwargs)
        s.size = mss
        s.user.open(s.now)
        s.poll()
        s.advance(rtt)
        agreed = [f"mss {mss + 12 * timestamps}"] + ["sackOK"] * sack + [f"TS val {s.clock()} ecr 0"] * timestamps
        s.peer(f"S. 0:0(0) ack 1 win {win} <{','.join(agreed)}>")
        s.take()
        cc = s.user.snd.cc
        cc.cwnd = cc.ssthresh = out * mss
        s.write(bytes((out + more) * mss))
        assert s.leaving() == list(range(out))
        return s

    @classmethod
    def answered(cls, out: int, **kwargs: Any) -> Self:
        """The same, one round trip later: the ACKs begin to come."""
        s = cls.of(out, **kwargs)
        s.advance(s.user.snd.rtt.srtt)
        return s

    # --- the peer, by hand --------------------------------------------------------------------------------------------

    def ack(
        self, upto: int, *sacked: tuple[int, int], echo: int | None = None, times: int = 1, win: int = 65535
    ) -> list[int]:
        """The peer acknowledges ``upto`` segments and reports ``sacked`` ones, [first, end) by number; it echoes the
        timestamp of what was sent at ``echo`` (ns). The numbers of the segments that leave on that."""
        line = f". 1:1(0) ack {edge(upto, self.size) & MASK32} win {win}"
        options = []
        if self.user.ts_ok:
            echoed = (START + RTT if echo is None else echo) - START
            options.append(f"nop,nop,TS val {self.clock()} ecr {echoed // MS}")
        if sacked:
            blocks = " ".join(f"{edge(a, self.size) & MASK32}:{edge(b, self.size) & MASK32}" for a, b in sacked)
            options.append(f"nop,nop,sack {blocks}")
        self.peer(*[line + (f" <{','.join(options)}>" if options else "")] * times)
        return self.leaving()

    def tick(self, upto: int, *sacked: tuple[int, int], **kwargs: Any) -> list[int]:
        """The same, a millisecond later."""
        self.advance(1 * MS)
        return self.ack(upto, *sacked, **kwargs)

    def clock(self) -> int:
        """The peer's timestamp clock."""
        return (self.now - START) // MS

    def leaving(self) -> list[int]:
        """The numbers of the segments sent since the last look; each is a full one, where it was at first."""
        check_board(self.user.snd)
        out = []
        for seg in self.take():
            number, rest = divmod(seg.seq - ISS - 1 & MASK32, self.size)
            assert rest == 0
            assert len(seg.payload) == self.size
            out.append(number)
        return out

    # --- the peer, honest, across a path ------------------------------------------------------------------------------

    def deliver(
        self,
        upto: int,
        *,
        lose: Collection[tuple[int, int]] = (),
        late: Mapping[tuple[int, int], int] | None = None,
        lose_acks: Callable[[int], bool] = lambda nth: False,
        first: Collection[int] = (),
    ) -> Counter[int]:
        """Let the path carry what is sent until the peer has acknowledged ``upto`` segments; how often each was sent.

        ``first``: what has left already, in this order. ``lose``: (number, how many times sent before) that never
        arrive; ``late``: by how many ns others arrive late; ``lose_acks``: whether the nth ACK is lost. Segments arrive
        ``GAP`` apart.
        """
        peer, late, answers = Peer(), late or {}, 0
        sent: Counter[int] = Counter()
        under_way: list[tuple[int, int, int, int]] = []  # when it arrives, tie-break, its number, when it left
        acks: deque[tuple[int, int, list[tuple[int, int]], int]] = deque()  # when it arrives, what it says
        line_free = 0

        def leave(numbers: Collection[int]) -> None:
            nonlocal line_free
            for number in numbers:
                line_free = max(line_free + GAP, self.now + RTT // 2)
                key = number, sent[number]
                sent[number] += 1
                if key not in lose:
                    heapq.heappush(under_way, (line_free + late.get(key, 0), sent.total(), number, self.now))

        leave(first)
        while self.user.snd.una < ISS + edge(upto, self.size):
            arrival = under_way[0][0] if under_way else NEVER
            answer = acks[0][0] if acks else NEVER
            when = min(arrival, answer, self.user.next_deadline())
            assert when != NEVER, "nothing under way and no timer"
            if when == arrival:
                self.advance(when - self.now)
                _, _, number, left_at = heapq.heappop(under_way)
                said = peer.receive(number, left_at)
                if not lose_acks(answers):
                    acks.append((when + RTT // 2, *said))
                answers += 1
            elif when == answer:
                self.now = when
                _, got, blocks, echo = acks.popleft()
                leave(self.ack(got, *(blocks if self.user.sack_ok else ()), echo=echo))
            else:
                self.advance(max(when - self.now, 0))
            leave(self.leaving())
        return sent

    # --- what is known ------------------------------------------------------------------------------------------------

    @property
    def phase(self) -> str:
        return PHASES[self.user.snd.phase]

    @property
    def window(self) -> tuple[int, int]:
        """cwnd and ssthresh, bytes."""
        return self.user.snd.cc.cwnd, self.user.snd.cc.ssthresh

    @property
    def pipe(self) -> int:
        return self.user.snd.pipe


class Peer:
    """A receiver of segments by number, which acknowledges each at once (RFC 2018 §4, RFC 2883 §4, RFC 7323 §4.3)."""

    def __init__(self) -> None:
        self.upto = 0
        self.ahead: set[int] = set()
        self.recent: list[int] = []  # the last ones to arrive ahead, the newest first
        self.stamp = START

    def receive(self, number: int, stamp: int) -> tuple[int, list[tuple[int, int]], int]:
        """Its ACK: all up to a number, the SACK blocks, and the timestamp it echoes (ns)."""
        if number <= self.upto:
            self.stamp = max(self.stamp, stamp)
        twice = number < self.upto or number in self.ahead
        if not twice:
            self.ahead.add(number)
        while self.upto in self.ahead:
            self.ahead.remove(self.upto)
            self.upto += 1
        if number >= self.upto:
            self.recent.insert(0, number)
        blocks = [(number, number + 1)] if twice else []
        for n in self.recent:
            if n < self.upto or any(a <= n < b for a, b in blocks[twice:]):
                continue
            start, end = n, n + 1
            while start - 1 in self.ahead:
                start -= 1
            while end in self.ahead:
                end += 1
            blocks.append((start, end))
        self.recent = [n for n in self.recent if n >= self.upto][:20]
        return self.upto, blocks[:3], self.stamp
