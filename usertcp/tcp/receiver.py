"""The receiving half of a connection: RCV.*, what is acceptable, the window we offer, and when to acknowledge.

::

    read_seq         rcv.nxt                    rcv.edge
       |   unread       |  out of order, gaps      |
    ---+----------------+---##-----####------------+----->  sequence numbers (absolute, RFC 9293 §3.3.1)
       |<------------ receive_buffer ------------->|

Everything in front of ``nxt`` is acknowledged and is never given up again; neither is what lies behind a gap once it
was reported in a SACK block (RFC 2018 §8: we never renege). ``edge`` is the right edge as the peer was last told it; it
never moves left (RFC 9293 §3.8.6, SHLD-14). How large the window may become is ``autotune``'s and ``memory``'s word.

What arrives a second time is reported as well, once, so that the peer learns which of its retransmissions were in vain
(RFC 2883): by an ACK of its own for each stretch of duplicates, the stretch in the first SACK block.

This file decides; it sends nothing and sets no timer itself.
"""

from typing import Final

from usertcp.tcp.autotune import WindowTuner
from usertcp.tcp.buffers import ReceiveBuffer
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.memory import UNBOUNDED, Memory
from usertcp.tcp.seq import unwrap
from usertcp.units import MASK32, SEC
from usertcp.wire.tcp import FIN, MAX_OPTIONS_LEN, Segment

ACK_NONE: Final = 0
ACK_DELAYED: Final = 1
ACK_NOW: Final = 2

MAX_SHIFT: Final = 14  # RFC 7323 §2.3
PAWS_IDLE: Final = 24 * 24 * 3600 * SEC  # after 24 idle days ts_recent is worthless (RFC 7323 §5.5)
MIN_RANGES: Final = 64  # gaps that any buffer keeps track of
RANGE_SHARE: Final = 512  # bytes of buffer for each gap beyond: more come only from who sends crumbs on purpose
MAX_RANGES: Final = 4096  # gaps however large the buffer; a tenth of the segments of 32 MiB lost makes half of them
MAX_SACK_BLOCKS: Final = 4  # that fit into the options (RFC 2018 §3)
MAX_DUPLICATE_ACKS: Final = 8  # duplicates owed at once to a peer without SACK; more tell it nothing new
MAX_DSACKS: Final = 16  # stretches of duplicates that wait to be told; more come only from who sends them on purpose


def window_shift(buffer: int) -> int:
    """The smallest window scale with which ``buffer`` bytes can be offered (RFC 7323 §2.2)."""
    return min(max(buffer.bit_length() - 16, 0), MAX_SHIFT)


class Receiver:
    """RCV.* of RFC 9293 §3.3.1, in absolute sequence numbers and bytes.

    ``flight``: the most that may be on its way to us, because the link would lose more without a word; the buffer is no
    larger than that, whatever the user would like.
    """

    __slots__ = (
        "ack",
        "buffer",
        "dsacks",
        "dsacks_sent",
        "duplicates",
        "edge",
        "fin",
        "fin_at",
        "flight",
        "irs",
        "last_ack_sent",
        "mss",
        "nxt",
        "quick",
        "recent",
        "reports_duplicates",
        "shift",
        "since_ack",
        "ts_recent",
        "ts_recent_at",
        "tuner",
        "up",
    )

    def __init__(self, config: TcpConfig, memory: Memory | None = None, flight: int = UNBOUNDED) -> None:
        first, most = config.windows
        self.flight = flight
        self.buffer = ReceiveBuffer(min(first, flight), memory)
        self.tuner = WindowTuner(self.buffer, min(most, flight))
        self.irs = 0
        self.nxt = 0
        self.edge = 0  # RCV.NXT + RCV.WND as last told to the peer
        self.up = 0  # RCV.UP
        self.shift = window_shift(max(first, most)) if config.window_scaling else 0
        self.fin: int | None = None  # the sequence number of the peer's FIN, as soon as one was seen in the window
        self.fin_at = 0  # when it was reached, ns
        self.mss = 536  # the largest segment seen: "full-sized" for delayed ACKs is one with as much, or more options
        self.ack = ACK_NONE
        self.duplicates = 0  # duplicate ACKs owed, one for each segment out of order (RFC 5681 §4.2)
        self.since_ack = 0  # bytes received since the last ACK was sent
        self.quick = config.quick_acks  # segments still to be acknowledged at once
        self.last_ack_sent = 0
        self.recent: list[int] = []  # a byte of each range that arrived lately, newest first: the order of SACK blocks
        self.reports_duplicates = False  # both ends agreed on SACK, and the user does not object
        self.dsacks: list[tuple[int, int]] = []  # what came twice and was not reported yet, oldest first
        self.dsacks_sent = 0
        self.ts_recent = 0
        self.ts_recent_at = 0

    def start(self, irs: int, *, scaled: bool) -> None:
        """Begin after the peer's SYN with number ``irs``; ``scaled``: both ends sent the window scale option."""
        self.irs = irs
        self.nxt = self.last_ack_sent = self.up = nxt = irs + 1
        buffer = self.buffer
        buffer.read_seq = buffer.nxt = buffer.top = nxt  # nothing was in it yet
        self.tuner.begin(nxt)
        self.edge = nxt + min(buffer.limit, 0xFFFF)  # the SYN's window is never scaled (RFC 7323 §2.2)
        if not scaled:
            self.shift = 0
        buffer.limit = max(buffer.limit, 1 << self.shift)

    # --- what is acceptable ------------------------------------------------------------------------------------------

    def acceptable(self, seq: int, length: int) -> bool:
        """The four cases of RFC 9293 §3.10.7.4, first; ``length`` counts SYN and FIN.

        With a zero window a segment that begins at RCV.NXT is let through so that its ACK, RST or URG is processed
        (MUST-66); :meth:`trim` then takes its text away. One that is longer than the window on both sides, which the
        table leaves out, is trimmed as well.
        """
        if self.nxt == self.edge:
            return seq == self.nxt
        return seq < self.edge and (seq + length > self.nxt if length else seq >= self.nxt)

    def trim(self, seg: Segment, seq: int) -> tuple[int, memoryview, bool]:
        """Cut ``seg`` to the window: (first sequence number, text, whether its FIN is inside)."""
        text = seg.payload
        fin = bool(seg.flags & FIN) and self.fin is None
        if seq < self.buffer.top and text:
            self.duplicate(seq, seq + len(text))
        if seq < self.nxt:
            text = text[self.nxt - seq :]
            seq = self.nxt
        beyond = seq + len(text) + fin - self.edge
        if beyond > 0:  # past the right edge, the FIN first: the peer hears the window again
            text = text[: max(0, self.edge - seq)]
            fin = False
            self.ack = ACK_NOW
        if self.fin is not None and seq + len(text) > self.fin:  # nothing comes after a FIN
            text = text[: max(0, self.fin - seq)]
        return seq, text, fin

    # --- timestamps (RFC 7323 §4, §5) --------------------------------------------------------------------------------

    def ts_age(self, tsval: int) -> int:
        """Ticks by which a timestamp is older than TS.Recent; negative: newer (RFC 7323 §5.2)."""
        return self.ts_recent - unwrap(tsval, self.ts_recent)

    def paws_rejects(self, tsval: int, now: int) -> bool:
        """Whether a timestamp is older than the newest seen (RFC 7323 §5.2)."""
        if self.ts_age(tsval) <= 0:
            return False
        return now - self.ts_recent_at < PAWS_IDLE

    def update_ts_recent(self, seq: int, tsval: int, now: int) -> None:
        """RFC 7323 §4.3 (2): of what PAWS took, only what reaches back to the last ACK sent may renew TS.Recent."""
        if seq <= self.last_ack_sent:
            self.ts_recent = tsval
            self.ts_recent_at = now

    # --- text --------------------------------------------------------------------------------------------------------

    def take(self, seq: int, text: memoryview, segment_size: int) -> bool:
        """Keep ``text`` (already trimmed). True: in-order bytes were added. Decides about the ACK that is owed."""
        if segment_size > self.mss:
            self.mss = min(segment_size, 0xFFFF)
        buffer = self.buffer
        had_gaps = buffer.top != buffer.nxt
        if had_gaps and seq > self.nxt and self._crumbs(seq, seq + len(text)):
            self.ack = ACK_NOW
            return False
        advanced = buffer.insert(seq, text)
        if not advanced:  # out of order: at once, so that fast retransmit runs (RFC 5681 §4.2, MAY-13)
            self._remember(seq)
            self.tuner.make_room()
            self.duplicates = min(self.duplicates + 1, MAX_DUPLICATE_ACKS)
            self.ack = ACK_NOW
            return False
        self.nxt = buffer.nxt
        self.duplicates = 0  # of a number that is no longer the next
        self.owe(advanced)
        if self.quick > 0:
            self.quick -= 1
            self.ack = ACK_NOW
        elif had_gaps or advanced < len(text):  # no memory for the rest: the peer is to know how far it is
            self.ack = ACK_NOW
        return True

    def owe(self, size: int) -> None:
        """``size`` bytes more are to be acknowledged: now, if they make two full segments (SHLD-19)."""
        self.since_ack += size
        if self.since_ack >= 2 * (self.mss - MAX_OPTIONS_LEN):
            self.ack = ACK_NOW
        elif self.ack == ACK_NONE:
            self.ack = ACK_DELAYED

    def _crumbs(self, start: int, end: int) -> bool:
        """Whether there are more gaps than an honest wire makes, and this text makes one more: it is not taken. It was
        never reported, so nothing is reneged."""
        buffer = self.buffer
        arrived = buffer.arrived
        if len(arrived) < MIN_RANGES:
            return False
        most = MIN_RANGES if buffer.memory.pressed else min(max(MIN_RANGES, buffer.limit // RANGE_SHARE), MAX_RANGES)
        return len(arrived) >= most and not arrived.touches(start, end)

    def _remember(self, seq: int) -> None:
        """``seq`` has arrived behind a gap, unless there was no memory for it: its range is the newest."""
        block = self.buffer.arrived.around(seq)
        if block is None:
            return
        others = [number for number in self.recent if not block[0] <= number < block[1]]
        self.recent = [seq, *others[: MAX_SACK_BLOCKS - 1]]

    def duplicate(self, start: int, end: int) -> None:
        """``[start, end)`` came: the first stretch of it that had come before is to be reported (RFC 2883 §4).

        That is what lies in front of RCV.NXT, else what lies in the first range behind a gap; of several stretches in
        one segment only the first (§4.2.2). An ACK tells of one stretch. Whether an old segment may be from another
        round of the sequence numbers makes no difference (§4.3).
        """
        if not self.reports_duplicates:
            return
        if start < self.nxt:
            start, end = max(start, self.irs + 1), min(end, self.buffer.nxt)
        else:
            held = self.buffer.arrived.overlapping(start, end)
            if held is None:
                return
            start, end = max(start, held[0]), min(end, held[1])
        if start >= end:
            return
        waiting = self.dsacks
        if waiting and waiting[-1][1] == start:  # the next of a burst that was sent again
            waiting[-1] = (waiting[-1][0], end)
        elif len(waiting) < MAX_DSACKS:
            waiting.append((start, end))

    def take_fin(self, seq: int) -> None:
        """Remember a FIN with number ``seq``; out of order it is acknowledged at once, as text is (RFC 5681 §4.2).
        One that has text behind it is none."""
        if seq >= self.buffer.top:
            self.fin = seq
        self.ack = ACK_NOW

    @property
    def fin_taken(self) -> bool:
        """Whether the peer's FIN is in order and counted in RCV.NXT."""
        return self.fin is not None and self.nxt > self.fin

    def fin_reached(self) -> bool:
        """Whether everything before the peer's FIN has arrived; the FIN is then counted in RCV.NXT, once."""
        if self.fin is None or self.nxt != self.fin:
            return False
        self.nxt += 1
        self.edge = max(self.edge, self.nxt)
        self.ack = ACK_NOW
        return True

    # --- the window (RFC 9293 §3.8.6.2.2, RFC 7323 §2) ---------------------------------------------------------------

    def resize(self, size: int, maximum: int, *, shrink: bool = False) -> None:
        """The user wants another buffer, tuned up to ``maximum``; what was offered stays offered (SHLD-14). Less than
        the window field can say would be a window closed for ever. ``shrink``: it is offered no more as it is used up.
        """
        offered = 0 if shrink else self.edge - self.buffer.read_seq
        self.buffer.limit = max(min(size, self.flight), offered, 1 << self.shift)
        self.tuner.maximum = min(maximum, self.flight)

    def _reachable_edge(self) -> int:
        """The right edge that the free buffer would allow, as the window field can say it."""
        return self.nxt + (min(self.buffer.room >> self.shift, 0xFFFF) << self.shift)

    def window_field(self, *, syn: bool = False) -> int:
        """The window field for a segment sent now; moves ``edge`` as far as the peer will read it.

        The edge moves right by at least min(buffer/2, MSS) or not at all (MUST-39). What was offered stays offered:
        its size is rounded up to the scale's unit as long as the buffer has that little to spare.
        """
        nxt, buffer, shift = self.nxt, self.buffer, self.shift
        offered = self.edge - nxt
        if syn:
            return min(offered, 0xFFFF)
        limit, least = buffer.limit, self.mss
        if least > limit // 2:
            least = limit // 2
        room = buffer.room if buffer.memory.pressed else limit - nxt + buffer.read_seq
        if room - offered >= least:
            field = min(room >> shift, 0xFFFF)
            if (field << shift) - offered >= least:
                self.edge = nxt + (field << shift)
                return field
        field = -(-offered >> shift)
        if field > 0xFFFF:
            return 0xFFFF
        size = field << shift
        if size > offered:
            if size > limit // 16 + (room if room > 0 else 0):
                return offered >> shift
            self.edge = nxt + size
        return field

    def window_update_due(self) -> bool:
        """Whether the user has read so much that the peer must hear of it now (MUST-39).

        That is half the buffer, or a segment and no less than is left of the window (as Linux: the peer may wait for
        room for a larger segment than we know of). Before the first byte has come nothing is due: a handshake's third
        segment is not answered because a SYN's window is small. Nor after the peer's FIN.
        """
        buffer = self.buffer
        half = buffer.limit // 2 or 1
        if buffer.read_seq + buffer.limit - self.edge < self.mss <= half:  # nearly always
            return False
        if self.nxt == self.irs + 1 or self.nxt != buffer.nxt:
            return False
        opened = self._reachable_edge() - self.edge
        return opened >= half or (opened >= self.mss and opened >= self.edge - self.nxt)

    # --- acknowledgments ---------------------------------------------------------------------------------------------

    def acknowledge_quickly(self, segments: int) -> None:
        """Acknowledge the next ``segments`` at once, and what waits for company too; 0: delay from now on."""
        self.quick = segments
        if segments and self.ack == ACK_DELAYED:
            self.ack = ACK_NOW

    def ack_sent(self) -> None:
        """A segment carrying our ACK has left."""
        self.ack = ACK_NONE
        self.duplicates = 0
        self.since_ack = 0
        self.last_ack_sent = self.nxt

    def sack_blocks(self, limit: int) -> list[tuple[int, int]]:
        """At most ``limit`` blocks for the SACK option, wire numbers: the newest first, then those reported
        before it, so that each goes out several times (RFC 2018 §4); what room is left is for the lowest others."""
        return [(start & MASK32, end & MASK32) for start, end in self._arrived_blocks(limit, [])]

    def dsack_blocks(self, limit: int) -> list[tuple[int, int]]:
        """The same, with the oldest duplicate that waits to be reported in front, which must be there; if it lies
        behind a gap, the range that it is a part of comes next (RFC 2883 §4)."""
        dsack = self.dsacks[0]
        around = self.buffer.arrived.around(dsack[0])
        blocks = self._arrived_blocks(limit - 1, [around] if around is not None else [])
        return [(start & MASK32, end & MASK32) for start, end in [dsack, *blocks]]

    def dsack_sent(self) -> None:
        """An ACK with the oldest duplicate has left: each is told once (RFC 2883 §4)."""
        self.dsacks.pop(0)
        self.dsacks_sent += 1

    def _arrived_blocks(self, limit: int, first: list[tuple[int, int]]) -> list[tuple[int, int]]:
        arrived = self.buffer.arrived
        recent = [block for number in self.recent if (block := arrived.around(number)) is not None]
        blocks = list(dict.fromkeys(first + recent))[:limit]
        for block in arrived:
            if len(blocks) == limit:
                break
            if block not in blocks:
                blocks.append(block)
        return blocks

    # --- urgent data (RFC 9293 §3.8.5, RFC 6093) ---------------------------------------------------------------------

    def urgent(self, seq: int, pointer: int) -> bool:
        """Move RCV.UP; True when it advanced past what the user has read (MUST-32)."""
        mark = seq + pointer
        if mark <= self.up or mark <= self.buffer.read_seq:
            return False
        self.up = mark
        return True

    def absolute(self, wire: int) -> int:
        """The absolute number of a wire sequence number."""
        return unwrap(wire, self.nxt)
