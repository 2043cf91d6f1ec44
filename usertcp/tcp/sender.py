"""The sending half of a connection: SND.*, what an acknowledgment means, and what may be sent next.

::

      una                                nxt            buffer.end
       |   in flight, SACKed or lost      |    unsent       |
    ---+----------------------------------+-----------------+--->  sequence numbers (absolute)
       |<------- una + wnd: what the peer allows ------->|

``nxt`` is SND.NXT and never moves back: what is lost is known to the scoreboard (``board``) and is sent again from
there, before anything new. How much may be in flight is the congestion controller's word (``cc``), how fast the
pacer's, what is lost ``recovery``'s; here it is put together: what goes next. This file decides; it builds no segment,
sets no timer."""

from typing import Final

from usertcp.tcp import recovery
from usertcp.tcp.buffers import SendBuffer
from usertcp.tcp.cc.base import AckSample, CongestionControl
from usertcp.tcp.cc.registry import create
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.memory import UNBOUNDED, Memory
from usertcp.tcp.pacing import QUANTUM, Pacer
from usertcp.tcp.prr import Prr
from usertcp.tcp.rack import Rack
from usertcp.tcp.ranges import RangeSet
from usertcp.tcp.rate import DeliveryRate
from usertcp.tcp.recovery import CWR, NEW_DATA, NO_FRTO, OPEN, RECOVERY
from usertcp.tcp.rtt import TS_TICK, RttEstimator
from usertcp.tcp.scoreboard import IN_FLIGHT, Scoreboard
from usertcp.tcp.seq import unwrap
from usertcp.tcp.tlp import TailLossProbe
from usertcp.units import KIB, MS, NEVER, SEC

DEFAULT_MSS: Final = 536  # without an MSS option from the peer, IPv4 (RFC 9293 §3.7.1, MUST-15)
DEFERRING: Final = 2  # bursts in the network from which on parts of one wait for the rest
COMPANY: Final = 96 * KIB  # bytes in the network from which on, between super-segments, a tail waits for company
NEAR: Final = 1 * MS  # a round trip below which only queues hold much: hosts that share a machine, or a switch
LEAST_USEFUL: Final = 512 * KIB  # window, bytes, that is of use there whatever was measured: some super-segments
SPARE: Final = 4  # times what the path itself holds: slow start doubles twice while a rate is measured
NO_HEAD: Final[tuple[tuple[int, ...], bytearray]] = ((), bytearray())
MIN_MSS: Final = 48  # the least we believe a peer, so that room for text remains beside the options (Linux)


class Sender:
    """SND.* of RFC 9293 §3.3.1, in absolute sequence numbers and bytes.

    ``flight``: the most that may be in flight whatever the windows say, because the link would lose the ACKs for more.
    """

    __slots__ = (
        "backed_off_probes",
        "board",
        "buffer",
        "bytes_resent",
        "cc",
        "decayed_at",
        "dsacks",
        "dup_credit",
        "duplicates",
        "fin_queued",
        "fin_sent",
        "first_resent_at",
        "flight",
        "frto",
        "head",
        "iss",
        "last_sent_at",
        "lone",
        "max_wnd",
        "mss",
        "nxt",
        "pacer",
        "partial_acks",
        "phase",
        "prr",
        "rack",
        "rate",
        "recover",
        "reduced",
        "reorder_at",
        "resend_now",
        "resent",
        "retransmissions",
        "retries",
        "rtt",
        "sack_ok",
        "sample",
        "shift",
        "small_end",
        "timeouts",
        "tlp",
        "una",
        "unacked_since",
        "undo_left",
        "undoable",
        "undone",
        "up",
        "usage_end",
        "usage_flight",
        "usage_full",
        "whole",
        "wl1",
        "wl2",
        "wnd",
    )

    def __init__(
        self,
        config: TcpConfig,
        iss: int,
        mss: int,
        memory: Memory | None = None,
        flight: int = UNBOUNDED,
        cc: CongestionControl | None = None,
    ) -> None:
        self.flight = flight
        self.iss = iss
        self.una = iss
        self.nxt = iss
        self.wnd = 0  # SND.WND, bytes
        self.wl1 = 0
        self.wl2 = 0
        self.max_wnd = 0  # the largest window the peer has offered (MAX.SND.WND)
        self.up = iss  # SND.UP
        self.shift = 0  # the peer's window scale
        self.mss = mss  # largest segment the peer and the path take, options included
        self.sack_ok = False  # the peer reports what it has behind gaps (RFC 2018)
        self.buffer = buffer = SendBuffer(config.send_buffer, config.send_buffer_max, memory)
        buffer.start = buffer.end = iss + 1
        self.fin_queued = False
        self.fin_sent = False
        self.cc = cc or create(config.congestion, mss)
        self.rtt = RttEstimator(config.initial_rto, config.min_rto, config.max_rto)
        self.board = Scoreboard()
        self.rate = DeliveryRate()
        self.sample = AckSample()
        self.rack = Rack()
        self.tlp = TailLossProbe()
        self.prr = Prr()
        self.pacer = Pacer()
        self.phase = OPEN
        self.recover = iss  # SND.NXT when the phase began (RFC 6582 §3.2: recover, RFC 6675 §2: RecoveryPoint)
        self.resend_now = False  # the first segment held for lost goes out whatever the window (fast retransmit, RTO)
        self.reorder_at = NEVER  # when RACK must look again (ns)
        self.frto = NO_FRTO
        self.reduced = False  # the window was, and no segment has told the peer so (RFC 3168 §6.1.2: CWR)
        self.undoable = False  # a recovery began that may turn out to have been a mistake
        self.undo_left = -1  # segments sent again since, less those reported twice; -1: none was
        self.resent = RangeSet()  # which numbers those are
        self.first_resent_at = -1  # when the phase's first retransmission left (ns)
        self.undone = 0  # reductions that were taken back, ever
        self.dsacks = 0  # reports of something received twice, ever
        self.duplicates = 0  # duplicate ACKs in a row, from a peer without SACK
        self.dup_credit = 0  # bytes that, by those, have left the network
        self.partial_acks = 0  # since recovery began
        self.retries = 0  # time-outs in a row
        self.timeouts = 0  # ever
        self.retransmissions = 0  # segments sent again, ever
        self.bytes_resent = 0
        self.backed_off_probes = 0  # window probes since the window closed
        self.small_end = iss  # the end of the last segment sent that was smaller than full (Nagle)
        self.unacked_since = 0  # when progress last stood still: the user timeout runs from here
        self.last_sent_at = 0
        self.lone = 0  # bytes that a message alone may have, while nothing is the matter (``message``)
        self.whole = 0  # bytes of text in a whole super-segment, while nothing is the matter (``express``); 0: none
        self.head = NO_HEAD  # of what left last of a stream: on what it depends beside the number, and the header
        self.decayed_at = 0  # when the window was last reduced for idleness (ns)
        self.usage_flight = 0  # the most in flight since ``usage_end`` was noted, and whether that was all that may be
        self.usage_full = False
        self.usage_end = iss

    # --- what is there -----------------------------------------------------------------------------------------------

    @property
    def outstanding(self) -> int:
        """SND.NXT - SND.UNA: sent, SYN and FIN included, and not acknowledged."""
        return self.nxt - self.una

    @property
    def pipe(self) -> int:
        """Bytes believed to be in the network (RFC 6675 §4)."""
        pipe = self.board.in_flight - self.dup_credit
        return pipe if pipe > 0 else 0

    @property
    def unsent(self) -> int:
        """Bytes the user has handed in that were never sent."""
        return self.buffer.end + self.fin_sent - self.nxt

    @property
    def pending(self) -> bool:
        """Whether text or a FIN waits for its first or its next transmission."""
        return self.board.lost > 0 or self.unsent > 0 or (self.fin_queued and not self.fin_sent) or self.tlp.due

    @property
    def may_probe(self) -> bool:
        """Whether a tail loss probe would be worth its while (RFC 8985 §7.2): nothing tells of losses yet, and the
        peer's SACK would."""
        return (
            self.sack_ok
            and self.phase <= CWR
            and self.tlp.end < 0
            and self.tlp.sampled
            and self.una < self.nxt
            and not (self.board.sacked or self.board.lost)
        )

    @property
    def fin_acked(self) -> bool:
        """Whether the peer has acknowledged our FIN."""
        return self.fin_sent and self.una == self.nxt

    @property
    def end(self) -> int:
        """One past the last number that will ever be sent as things stand: text, then the FIN."""
        return self.buffer.end + self.fin_queued

    def absolute(self, wire: int) -> int:
        """The absolute number of a wire acknowledgment."""
        return unwrap(wire, self.una)

    @property
    def bare(self) -> int:
        """The number of a segment without text: SND.NXT, but not one past the peer's window, where a probe of a closed
        window has its number; the peer would drop the segment with the ACK on it."""
        edge = self.una + self.wnd
        return self.nxt if edge >= self.nxt or self.una == self.iss else edge

    def clear(self) -> None:
        """Forget what is unacknowledged and unsent: the connection is CLOSED."""
        if self.buffer.start != self.buffer.end:
            self.buffer.reset(self.buffer.end)
        if self.una != self.nxt:
            self.board.clear()
            self.una = self.nxt
        self.tlp.cancel()

    @property
    def useful(self) -> int:
        """Bytes in the network beyond which more would do nothing but wait: what both windows allow; and where the
        round trip is next to nothing, some times what the path delivers in one. There a window without losses grows
        until it is megabytes deep in the peer's queue, and all of that has left the cache when it is read."""
        window = min(self.cc.cwnd, self.max_wnd)
        near = self.rtt.min_rtt
        return min(window, max(SPARE * self.rate.rate * near // SEC, LEAST_USEFUL)) if 0 < near < NEAR else window

    # --- acknowledgments (RFC 9293 §3.10.7.4, fifth) -----------------------------------------------------------------

    def update_window(self, seq: int, ack: int, window: int) -> bool:
        """The SND.WL1/WL2 rule: an old segment must not change the window. True: the window changed.

        A segment that acknowledges something new is not old, whatever its number: a retransmission may bring the news
        (as Linux). To take its ACK but not its window would move the right edge beyond what the peer offers.
        """
        if not (ack > self.una or self.wl1 < seq or (self.wl1 == seq and self.wl2 <= ack)):
            return False
        self.wl1 = seq
        self.wl2 = ack
        if window == self.wnd:
            return False
        reopened = self.wnd == 0 and window > 0
        self.offered(window)
        if reopened:
            if self.backed_off_probes:  # closed for a time-out at least: what was sent into it has been refused
                self.board.mark_all_lost()
            self.backed_off_probes = 0
        return True

    def offered(self, window: int) -> None:
        """The peer allows ``window`` bytes, as it did before."""
        self.wnd = window
        if window > self.max_wnd:
            self.max_wnd = window

    def on_ack(
        self,
        ack: int,
        now: int,
        *,
        blocks: tuple[tuple[int, int], ...] = (),
        duplicate: bool = False,
        echoed_at: int = -1,
        marked: int = 0,
    ) -> int:
        """An acceptable ACK: free what it covers, learn from it, mend. Returns the bytes acknowledged.

        ``blocks``: the SACK option, wire numbers; ``duplicate``: a duplicate ACK (RFC 5681 §2); ``echoed_at``: when the
        segment whose timestamp it echoes was sent, at the latest (ns), -1 without; ``marked``: bytes that it reports as
        marked by the network.
        """
        acked = ack - self.una
        if acked and not (blocks or marked) and self.expects(acked):
            self.on_expected_ack(acked, now)
            return acked
        board, sample = self.board, self.sample
        sample.now = now
        sample.flight = self.pipe
        sample.ecn_marked = marked
        if acked:
            board.ack_to(ack)
            self.una = ack
            self.buffer.ack(min(ack, self.buffer.end))
            self.retries = 0
            self.unacked_since = now
        cumulative = len(board.fresh)
        dsack = self._take_blocks(blocks) if blocks and self.sack_ok else None
        if board.fresh or duplicate or dsack is not None:
            self._measure(cumulative, echoed_at, now)
            recovery.on_ack(self, acked, duplicate=duplicate, dsack=dsack, echoed_at=echoed_at)
            board.fresh.clear()
            sample.lost = 0
            self._pace()
        return acked

    def expects(self, acked: int) -> bool:
        """Whether an ACK of ``acked`` bytes more is the answer to what was sent while all is well: nothing is held for
        lost, reported behind a gap, sent again, or probed for, and nothing that was sent later has been delivered. Then
        :meth:`on_expected_ack` may take it."""
        board, rack = self.board, self.rack
        first = board.first
        return (
            first is not None
            and acked <= self.nxt - self.una
            and self.phase == OPEN
            and self.wnd > 0
            and self.sack_ok
            and self.tlp.end < 0
            and not (board.lost or board.sacked or board.retrans)
            and rack.sent_at <= first.sent_at
            and rack.fack <= self.una
        )

    def on_expected_ack(self, acked: int, now: int) -> None:
        """:meth:`on_ack` for an ACK of ``acked`` bytes more that was expected: nobody needs to ask what is lost."""
        board, sample, rtt = self.board, self.sample, self.rtt
        una = self.una + acked
        sample.now = now
        sample.flight = board.in_flight
        sample.ecn_marked = 0
        first = board.first
        assert first is not None
        oldest = first.sent_at
        newest = board.ack_in_order(una)
        self.una = una
        self.buffer.ack(min(una, self.buffer.end))  # a FIN has the number after it
        self.retries = 0
        self.unacked_since = now
        rtt.sample(now - oldest, now - newest.sent_at)
        self.tlp.sampled = True
        sample.rtt = max(now - newest.sent_at, 1)
        sample.min_rtt, sample.srtt = rtt.min_rtt, rtt.srtt
        sample.acked = acked
        sample.cwnd_limited = self._was_cwnd_limited()
        self.rack.on_in_order(newest, una, now)
        self.rate.take(newest, acked, sample)
        self.reorder_at = NEVER
        sample.pipe = board.in_flight
        sample.in_recovery = False
        cc = self.cc
        cc.on_ack(sample)
        if cc.paced or self.pacer.rate:
            self._pace()

    def on_answer(self, now: int) -> int:
        """:meth:`on_ack` for the answer to what left alone and was not written down (``message``, ``control``): what it
        leaves behind is what anything would that used little of the window. The bytes acknowledged."""
        rack, una, sent_at = self.rack, self.nxt, self.last_sent_at
        acked, trip = una - self.una, now - sent_at
        self.una = una
        self.unacked_since = now
        self.rtt.sample(trip, trip)
        self.tlp.sampled = True
        rack.rtt, rack.sent_at, rack.end, rack.fack = trip, sent_at, una, una  # as ``Rack.on_in_order``
        self.rate.on_message(acked, trip, now)
        self.cc.on_unused(now, acked)
        return acked

    def _take_blocks(self, blocks: tuple[tuple[int, int], ...]) -> tuple[int, int] | None:
        """Note what the SACK option reports; what it reports as received twice, if it does (RFC 2883 §4)."""
        una, nxt = self.una, self.nxt
        dsack = None
        previous = (0, 0)
        for i, (left, right) in enumerate(blocks):
            start, end = unwrap(left, una), unwrap(right, una)
            if not start < end <= nxt or start == una:  # what begins at SND.UNA contradicts the ACK
                continue
            if i == 0 and end <= una:
                dsack = start, end
                continue
            if i == 1 and start <= previous[0] and previous[1] <= end:
                dsack = previous
            if end > una:
                self.board.sack(start, end)
            previous = start, end
        return dsack

    def _measure(self, cumulative: int, echoed_at: int, now: int) -> None:
        """Take round trip and rate from what was delivered; the first ``cumulative`` of ``fresh`` by the ACK itself.

        The RTT is that of the oldest segment acknowledged, since delayed ACKs belong to it, for the time-out; that of
        the newest for the congestion control and as the smallest. None comes from what was sent twice: nobody knows
        which copy is answered (Karn; RFC 6298 §3), unless the echo of a timestamp tells.
        """
        rtt, sample, fresh = self.rtt, self.sample, self.board.fresh
        oldest = newest = -1
        if cumulative and not any(entry[0].retransmitted for entry in fresh[:cumulative]):
            oldest, newest = fresh[0][0].sent_at, fresh[cumulative - 1][0].sent_at
        for record, _, _ in fresh[cumulative:]:
            if not record.retransmitted:
                newest = max(newest, record.sent_at)
                oldest = record.sent_at if oldest < 0 else oldest
        if oldest >= 0:
            rtt.sample(now - oldest, now - newest)
            self.tlp.sampled = True
        elif cumulative and echoed_at >= 0:
            echoed = max(now // TS_TICK - echoed_at // TS_TICK, 1) * TS_TICK
            self.tlp.sampled = True
            rtt.sample(echoed, echoed)
        sample.rtt = max(now - newest, 1) if newest >= 0 else -1
        sample.min_rtt, sample.srtt = rtt.min_rtt, rtt.srtt
        sample.acked = sum([entry[2] for entry in fresh])
        sample.cwnd_limited = self._was_cwnd_limited()
        self.rack.on_delivered(fresh, echoed_at, rtt.min_rtt, now)
        self.rate.sample(fresh, sample, blind=not self.sack_ok and self.phase >= RECOVERY)

    @property
    def restarts_timer(self) -> bool:
        """Whether the ACK just taken restarts the retransmission timer (RFC 6298 §5.3): without SACK only the first
        partial one of a recovery does, so that many losses end in a time-out and not in a round trip each
        (RFC 6582 §3.2 step 3)."""
        return self.sack_ok or self.phase != RECOVERY or self.partial_acks <= 1

    def on_ecn(self, marked: int, now: int) -> None:
        """The peer reports ``marked`` bytes marked by the network: reduce, once a window (RFC 3168 §6.1.2). A window of
        one segment cannot be reduced: the next segment waits as long as a time-out. A reduction made before is now no
        mistake, whatever it was made for."""
        self.sample.acked = 0
        self.undoable = False
        if self.phase == OPEN and self.cc.cwnd <= self.cc.mss:
            self.pacer.free_at = now + self.rtt.rto
        recovery.reduce(self, now, ecn=True)

    def change_congestion(self, name: str) -> None:
        """Another algorithm takes over where this one stands; FileNotFoundError (ENOENT) if there is none of that name.

        One that leaves in the middle of a reduction may have said nothing of its end, as a model of the path does not:
        then the window as it is, is the end.
        """
        old, cc = self.cc, create(name, self.cc.mss, sack=self.sack_ok or self.una == self.iss)
        cc.cwnd, cc.ssthresh = old.cwnd, old.ssthresh
        if self.phase in (CWR, RECOVERY) and old.keeps_window:
            cc.ssthresh = max(cc.cwnd, 2 * cc.mss)
            self.prr.begin(self.outstanding - self.board.sacked)
        self.cc = cc
        self.undoable = False

    def shrink(self, mss: int, text: int) -> None:
        """The path carries no more than ``mss`` bytes a segment, ``text`` of them text (RFC 1191): what is out is too
        large, send it again."""
        self.mss = mss
        self.cc.mss = text
        self.board.mark_all_lost()
        self.resend_now = True

    # --- what may be sent next ---------------------------------------------------------------------------------------

    def next_resend(self, payload: int, burst: int) -> tuple[int, int]:
        """(first number, how many) to send again, a FIN counting as one; 0: nothing now. ``payload``: text in a full
        segment.

        The first segment goes alone and at once, the others in bursts as the window allows. When all that is out is
        held for lost, the last one is filled up with text never sent.
        """
        if not self.board.lost or self.frto == NEW_DATA:
            return 0, 0
        start, end = self.board.lost_run(burst)
        wanted = min(end if end < self.nxt else self.end, self.una + self.wnd) - start
        if wanted <= 0:
            return 0, 0
        if self.resend_now:
            return start, min(payload, wanted)
        length = min(wanted, self.cc.cwnd - self.pipe, burst)
        if length < min(payload, wanted):
            return 0, 0
        return start, length if length == wanted else length - length % payload

    def next_probe(self, payload: int) -> tuple[int, int]:
        """(first number, how many) of a tail loss probe: new text, else the last segment once more (RFC 8985 §7.3)."""
        length = min(payload, self.buffer.end - self.nxt, self.una + self.wnd - self.nxt)
        if length > 0:
            return self.nxt, length
        last = self.board.last
        if last is None or last.state != IN_FLIGHT or self.una + self.wnd < last.end:
            return 0, 0
        text = last.end - last.start - self.fin_sent
        size = min((text - 1) % last.size + 1, payload) + self.fin_sent if text else 1
        return last.end - size, size

    def next_new(self, payload: int, burst: int, nodelay: bool, corked: bool = False) -> int:
        """Bytes of new text to send at ``nxt``, whole segments of ``payload`` or the rest; 0: nothing now.

        RFC 9293 §3.8.6.2.1 and §3.7.4: a segment that is not full goes only when it empties the buffer and Nagle
        allows it (``nodelay``: always; ``corked``: never), or when it fills half the largest window the peer ever
        offered.
        """
        available = self.buffer.end - self.nxt
        if available <= 0 or (self.board.lost and self.frto != NEW_DATA):
            return 0
        window = self.una + self.wnd - self.nxt
        allowed = min(window, min(self.cc.cwnd, self.flight) - self.pipe, burst)
        length = min(available, allowed)
        if length >= payload:
            if length < burst and self._waits(length, available, burst):
                return 0
            return length if length == available and self._tail_may_go(nodelay, corked) else length - length % payload
        if length <= 0:
            return 0
        if length == available:
            goes = self._tail_may_go(nodelay, corked) and not self._waits(length, available, burst)
            return length if goes else 0
        # The window, and not the buffer's end, makes it small: silly, unless it is half of all the peer ever offers.
        return length if length == window and length * 2 >= self.max_wnd else 0

    def _waits(self, length: int, available: int, burst: int) -> bool:
        """Whether ``length`` bytes, less than a ``burst``, wait for the rest of it: for the windows, or, being all that
        is ``available``, for what the user writes next (Linux: tcp_autocorking). The end of a stream does not."""
        if length == available:
            return not self.fin_queued and self.up <= self.nxt and self.awaits_company(burst)
        return self.defers(burst)

    def awaits_company(self, burst: int) -> bool:
        """Whether less than a ``burst``, all that there is to send, waits for what the user writes next."""
        return self.board.in_flight >= COMPANY <= 2 * burst and self.defers(burst)

    def defers(self, burst: int) -> bool:
        """Whether less than a burst waits until the windows let all of it go: many of them are in the network, whose
        acknowledgments will see to that within a moment, and small ones cost as much (Linux: tcp_tso_should_defer)."""
        if self.board.in_flight < DEFERRING * burst or self.phase != OPEN or self.pacer.rate:
            return False
        return burst * self.rtt.srtt <= self.cc.cwnd * QUANTUM

    def _tail_may_go(self, nodelay: bool, corked: bool) -> bool:
        """Nagle's rule (RFC 9293 §3.7.4) in Minshall's reading, as Linux: a small segment waits only while another
        small one is unacknowledged. A cork holds it back until the override timer runs out."""
        allowed = not corked and (nodelay or self.una >= self.small_end)
        return allowed or self.fin_queued or self.up > self.nxt

    def silly_blocked(self) -> bool:
        """Whether text waits only because the open window is silly: the override timer must run (§3.8.6.2.1)."""
        return self.wnd > 0 and self.outstanding == 0 and self.unsent > 0

    def settle_for_old(self) -> bool:
        """New data was to tell whether the time-out was spurious, but none may go (Nagle, a silly window): then there
        is no verdict, and what is held for lost goes (RFC 5682 §2.1 step 2b). True: that is so."""
        if self.frto != NEW_DATA or self.nxt > self.recover:
            return False
        self.frto = NO_FRTO
        return True

    def may_send_fin(self) -> bool:
        """Whether all text is out and the FIN may follow inside the window."""
        return (
            self.fin_queued
            and not self.fin_sent
            and self.nxt == self.buffer.end
            and not self.board.lost
            and self.una + self.wnd > self.nxt
        )

    def on_sent(self, start: int, end: int, now: int, size: int) -> None:
        """[``start``, ``end``) has left in segments of ``size`` bytes; what lies before ``nxt`` was sent again."""
        if start < self.nxt:
            self._on_resent(start, min(end, self.nxt), now, size)
        if end > self.nxt:
            if self.nxt == self.una:
                self.unacked_since = now
            idle = self.pipe == 0
            record = self.board.push(max(start, self.nxt), end, now, size)
            self.nxt = end
            self.rate.on_send(record, self.pipe, now, idle=idle)
        if self.phase in (CWR, RECOVERY):
            self.prr.out += end - start
        self.last_sent_at = now
        self.pacer.on_sent(end - start, now)

    def _on_resent(self, start: int, end: int, now: int, size: int) -> None:
        segments = -(-(end - start) // self.cc.mss)
        self.retransmissions += segments
        self.bytes_resent += end - start
        self.resend_now = False
        if self.phase >= RECOVERY:
            self.undo_left = max(self.undo_left, 0) + segments
            self.resent.add(start, end)
        if self.first_resent_at < 0 or (self.phase < RECOVERY and not self.board.retrans):
            self.first_resent_at = now
        idle = self.pipe == 0
        for record in self.board.resend(start, end, now, size):
            self.rate.on_send(record, self.pipe, now, idle=idle)

    def start_burst(self, now: int) -> None:
        """Something is about to be sent: tell the congestion control how things stand (RFC 5681 §4.1)."""
        cc = self.cc
        idle_since = max(self.last_sent_at, self.decayed_at)
        if self.outstanding == 0 and self.last_sent_at and now - idle_since > self.rtt.rto:
            cc.on_idle(now - idle_since, self.rtt.rto, now)
            self.decayed_at = now
        cc.on_send(now, app_limited=self.rate.app_limited > 0, flight=self.pipe)
        self._pace()

    # --- whether the window was used (RFC 7661 §4.1, as Linux reads it) ---------------------------------------------

    def _pace(self) -> None:
        cc, srtt = self.cc, self.rtt.srtt
        self.pacer.follow(cc.pacing_rate(srtt), cc.mss, srtt)

    def end_burst(self, payload: int, burst: int) -> None:
        """All that may be sent now is out, in segments of ``payload`` bytes and bursts of up to ``burst``: was the
        window the limit, or the user?"""
        pipe = self.pipe
        window = self.una + self.wnd - self.nxt
        room = self.cc.cwnd - pipe
        unsent = self.buffer.end - self.nxt
        if self.defers(burst):
            payload = burst
            if unsent < burst and unsent <= min(room, window) and self._waits(unsent, unsent, burst):
                unsent = 0
        held_back = self.board.lost > 0 or unsent > 0
        full = held_back and room < payload <= window
        if not held_back and room > 0:
            self.rate.on_user_idle(pipe)
        self.note_usage(pipe, full=full)

    def note_usage(self, pipe: int, *, full: bool) -> None:
        """All that may be sent now is out, ``pipe`` bytes; ``full``: the window was the limit."""
        if full or self.una >= self.usage_end or (not self.usage_full and pipe > self.usage_flight):
            self.usage_full = full
            self.usage_flight = pipe
            self.usage_end = self.nxt

    def _was_cwnd_limited(self) -> bool:
        cc = self.cc
        return self.usage_full or (cc.cwnd < cc.ssthresh and cc.cwnd < 2 * self.usage_flight)
