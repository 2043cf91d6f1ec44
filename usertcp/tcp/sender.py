"""The sending half of a connection: SND.*, what an acknowledgment means, and what may be sent next.

::

      una        resend      resend_end       nxt            buffer.end
       |  in flight |   lost     |  in flight  |    unsent       |
    ---+------------+------------+-------------+-----------------+--->  sequence numbers (absolute)
       |<----------- una + wnd: what the peer allows ------->|

``nxt`` is SND.NXT and never moves back. What is held for lost is the one stretch [``resend``, ``resend_end``): a
retransmission time-out puts everything there, a fast retransmit one segment, and it is sent again as the congestion
window allows. How much may be in flight is the congestion controller's word (``cc``); what goes next is said here.
Recovery without the peer's SACK is NewReno (RFC 6582). This file decides; it builds no segment and sets no timer.
"""

from typing import Final

from usertcp.tcp.buffers import SendBuffer
from usertcp.tcp.cc.registry import create
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.rtt import RttEstimator
from usertcp.tcp.scoreboard import SentQueue
from usertcp.tcp.seq import unwrap

DUPLICATE_THRESHOLD: Final = 3  # duplicate ACKs that make a segment lost (RFC 5681 §3.2)
DEFAULT_MSS: Final = 536  # without an MSS option from the peer, IPv4 (RFC 9293 §3.7.1, MUST-15)
MIN_MSS: Final = 48  # the least we believe a peer, so that room for text remains beside the options (Linux)


class Sender:
    """SND.* of RFC 9293 §3.3.1, in absolute sequence numbers and bytes."""

    __slots__ = (
        "backed_off_probes",
        "buffer",
        "cc",
        "duplicates",
        "fin_queued",
        "fin_sent",
        "flight",
        "in_recovery",
        "inflation",
        "iss",
        "last_sent_at",
        "max_wnd",
        "mss",
        "nxt",
        "partial_acks",
        "recover",
        "resend",
        "resend_end",
        "resend_now",
        "retransmissions",
        "retries",
        "rtt",
        "sent",
        "shift",
        "small_end",
        "una",
        "unacked_since",
        "up",
        "wl1",
        "wl2",
        "wnd",
    )

    def __init__(self, config: TcpConfig, iss: int, mss: int) -> None:
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
        self.buffer = SendBuffer(config.send_buffer)
        self.buffer.reset(iss + 1)
        self.fin_queued = False
        self.fin_sent = False
        self.cc = create(config.congestion, mss)
        self.rtt = RttEstimator(config.initial_rto, config.min_rto, config.max_rto)
        self.sent = SentQueue()
        self.resend = iss
        self.resend_end = iss
        self.resend_now = False  # the first segment held for lost goes out whatever the window (fast retransmit, RTO)
        self.recover = iss  # RFC 6582 §3.2: SND.NXT when recovery last began
        self.in_recovery = False
        self.partial_acks = 0  # since recovery began
        self.duplicates = 0
        self.flight = 0  # in the network when the first duplicate came: before limited transmit (RFC 5681 §3.2 step 2)
        self.inflation = 0  # bytes by which duplicate ACKs widen the window (RFC 5681 §3.2, RFC 3042)
        self.retries = 0  # time-outs in a row
        self.retransmissions = 0  # segments sent again, ever
        self.backed_off_probes = 0  # window probes since the window closed
        self.small_end = iss  # the end of the last segment sent that was smaller than full (Nagle)
        self.unacked_since = 0  # when progress last stood still: the user timeout runs from here
        self.last_sent_at = 0

    # --- what is there -----------------------------------------------------------------------------------------------

    @property
    def outstanding(self) -> int:
        """SND.NXT - SND.UNA: sent, SYN and FIN included, and not acknowledged."""
        return self.nxt - self.una

    @property
    def pipe(self) -> int:
        """Bytes believed to be in the network: outstanding less what is held for lost."""
        return self.nxt - self.una - (self.resend_end - self.resend)

    @property
    def unsent(self) -> int:
        """Bytes the user has handed in that were never sent."""
        return self.buffer.end + self.fin_sent - self.nxt

    @property
    def pending(self) -> bool:
        """Whether text or a FIN waits for its first or its next transmission."""
        return self.resend < self.resend_end or self.unsent > 0 or (self.fin_queued and not self.fin_sent)

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
        self.buffer.reset(self.buffer.end)
        self.sent.clear()
        self.una = self.resend = self.resend_end = self.nxt

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
        self.wnd = window
        self.max_wnd = max(self.max_wnd, window)
        if reopened:
            self._window_reopened()
        return True

    def _window_reopened(self) -> None:
        """What was sent into the closed window was refused: it goes again, with as much beside it as now fits."""
        self.backed_off_probes = 0
        if self.nxt > self.una:
            self.resend = self.una
            self.resend_end = self.nxt

    def on_ack(self, ack: int, now: int, echoed_rtt: int) -> int:
        """``ack`` is new: free what it covers, sample the RTT, grow or mend. Returns the bytes acknowledged.

        ``echoed_rtt`` is the RTT by the timestamp echo (ns), or -1; it serves where Karn's rule forbids our own clock.
        """
        acked = ack - self.una
        flight = self.pipe
        rtt = self.sent.ack_to(ack, now)
        if rtt < 0:
            rtt = echoed_rtt
        if rtt >= 0:
            self.rtt.sample(rtt)
        self.una = ack
        self.buffer.ack(min(ack, self.buffer.end))
        self.resend = max(self.resend, ack)
        self.resend_end = max(self.resend_end, self.resend)
        self.retries = 0
        self.unacked_since = now
        if self.in_recovery and ack < self.recover:
            self._partial_ack(acked)
        else:
            self.duplicates = 0
            self.inflation = 0
            if self.in_recovery:
                self.in_recovery = False
                self.cc.on_recovered(now)
            else:
                self.cc.on_ack(acked, flight, rtt, now)
        return acked

    def _partial_ack(self, acked: int) -> None:
        """RFC 6582 §3.2 step 3: the next segment is lost as well; deflate by what was acknowledged."""
        mss = self.cc.mss
        self.partial_acks += 1
        self.inflation = max(0, self.inflation - acked) + (mss if acked >= mss else 0)
        self._hold_for_lost(mss)

    @property
    def restarts_timer(self) -> bool:
        """Whether the ACK just taken restarts the retransmission timer (RFC 6298 §5.3): of a recovery only its first
        partial one does, so that many losses end in a time-out and not in a round trip each (RFC 6582 §4)."""
        return not self.in_recovery or self.partial_acks <= 1

    def on_duplicate(self, now: int) -> None:
        """A duplicate ACK (RFC 5681 §2): limited transmit, fast retransmit, inflation."""
        mss = self.cc.mss
        self.duplicates += 1
        if self.duplicates == 1:
            self.flight = self.pipe
        if self.in_recovery:
            self.inflation += mss
        elif self.duplicates < DUPLICATE_THRESHOLD:
            self.inflation = self.duplicates * mss  # RFC 3042
        elif self.duplicates == DUPLICATE_THRESHOLD and self.una > self.recover:
            self.in_recovery = True
            self.partial_acks = 0
            self.recover = self.nxt
            self.cc.on_congestion(min(self.flight, self.pipe), now)
            self.inflation = DUPLICATE_THRESHOLD * mss
            self._hold_for_lost(mss)

    def _hold_for_lost(self, length: int) -> None:
        self.resend = self.una
        self.resend_end = min(self.una + length, self.nxt)
        self.resend_now = True

    def on_rto(self, now: int) -> None:
        """RFC 6298 §5.4-5.6, RFC 5681 §3.1: back off, and send again from SND.UNA in slow start."""
        if self.retries == 0:
            self.cc.on_rto(self.pipe, now)
        self.retries += 1
        self.rtt.backoff()
        self.in_recovery = False
        self.duplicates = 0
        self.inflation = 0
        self.recover = self.nxt
        self._hold_for_lost(self.nxt - self.una)

    def shrink(self, mss: int, text: int) -> None:
        """The path carries no more than ``mss`` bytes a segment, ``text`` of them text (RFC 1191): what is out is too
        large, send it again."""
        self.mss = mss
        self.cc.mss = text
        self._hold_for_lost(self.nxt - self.una)

    # --- what may be sent next ---------------------------------------------------------------------------------------

    def next_resend(self, payload: int, burst: int) -> int:
        """Bytes (a FIN counts as one) to send again at ``resend``; 0: nothing now. ``payload``: text in a full segment.

        The first segment goes alone and at once, the others in bursts as the window allows. When all that is out is
        held for lost, the last one is filled up with text never sent.
        """
        if self.resend >= self.resend_end:
            return 0
        limit = self.resend_end if self.resend_end < self.nxt else self.end
        wanted = min(limit - self.resend, self.una + self.wnd - self.resend)
        if wanted <= 0:
            return 0
        if self.resend_now:
            return min(payload, wanted)
        allowed = self.cc.cwnd + (self.inflation if self.in_recovery else 0) - self.pipe
        length = min(wanted, allowed, burst)
        if length < min(payload, wanted):
            return 0
        return length if length == wanted else length - length % payload

    def next_new(self, payload: int, burst: int, nodelay: bool) -> int:
        """Bytes of new text to send at ``nxt``, whole segments of ``payload`` or the rest; 0: nothing now.

        RFC 9293 §3.8.6.2.1 and §3.7.4: a segment that is not full goes only when it empties the buffer and Nagle
        allows it, or when it fills half the largest window the peer ever offered.
        """
        available = self.buffer.end - self.nxt
        if available <= 0 or self.resend < self.resend_end:
            return 0
        window = self.una + self.wnd - self.nxt
        allowed = min(window, self.cc.cwnd + self.inflation - self.pipe, burst)
        length = min(available, allowed)
        if length >= payload:
            if length == available and self._tail_may_go(nodelay):
                return length
            return length - length % payload
        if length <= 0:
            return 0
        if length == available:
            return length if self._tail_may_go(nodelay) else 0
        # The window, and not the buffer's end, makes it small: silly, unless it is half of all the peer ever offers.
        return length if length == window and length * 2 >= self.max_wnd else 0

    def _tail_may_go(self, nodelay: bool) -> bool:
        """Nagle's rule (RFC 9293 §3.7.4) in Minshall's reading, as Linux: a small segment waits only while another
        small one is unacknowledged."""
        return nodelay or self.fin_queued or self.una >= self.small_end or self.up > self.nxt

    def silly_blocked(self) -> bool:
        """Whether text waits only because the open window is silly: the override timer must run (§3.8.6.2.1)."""
        return self.wnd > 0 and self.outstanding == 0 and self.unsent > 0

    def may_send_fin(self) -> bool:
        """Whether all text is out and the FIN may follow inside the window."""
        return (
            self.fin_queued
            and not self.fin_sent
            and self.nxt == self.buffer.end
            and self.resend >= self.resend_end
            and self.una + self.wnd > self.nxt
        )

    def on_sent(self, start: int, end: int, now: int) -> None:
        """[``start``, ``end``) has left; what lies before ``nxt`` was sent again (Karn: not to be timed)."""
        if start < self.nxt:
            self.sent.mark_retransmitted(start, min(end, self.nxt), now)
            self.retransmissions += -(-(min(end, self.nxt) - start) // self.cc.mss)
            if start == self.resend:
                self.resend = min(end, self.resend_end)
                self.resend_now = False
        if end > self.nxt:
            if self.nxt == self.una:
                self.unacked_since = now
            self.sent.push(max(start, self.nxt), end, now)
            self.nxt = end
        self.last_sent_at = now
