"""Explicit congestion notification (RFC 3168): what the two ends of a connection tell each other of marks.

A router that is about to drop may mark instead, if the packet says that its sender would hear of it::

    sender                      router                    receiver
      | ---- text, ECT(0) ------> | ---- text, CE ---------> |
      | <--------------------------------------- ACK, ECE -- |   and on every ACK from now on
      |  one reduction a window                              |
      | ---- new text, CWR ---------------------------------> |   ECE ends

Whether and how they do so is agreed in the handshake (``ecn_setup``). There are three answers, and one class for each:
not at all (:class:`Feedback`, which does nothing), this way (:class:`Classic`), or by counters (``accecn``). A
connection has one of them as ``conn.ecn`` and asks it at each turn: what an outgoing segment is to carry, what an
arriving one means. How much the window shrinks is the congestion controller's word, that it does so once a window the
sender's.

Only text that was never sent before says ECT. Retransmissions, pure ACKs, window probes, SYN, FIN alone and RST do not
(RFC 3168 §6.1.1, §6.1.4 to §6.1.6), in AccECN neither: the experiment of RFC 8311 §4.3 is not taken part in.
"""

from typing import TYPE_CHECKING, ClassVar, Final

from usertcp.tcp.ecn_policy import ASKS_CLASSIC, ASKS_NOTHING, asks
from usertcp.tcp.receiver import ACK_NOW
from usertcp.wire.ecn import CE, ECT_0, NOT_ECT
from usertcp.wire.tcp import CWR, ECE, SYN, Segment

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection


class Feedback:
    """Neither end speaks of marks. Also what the two other ways have in common.

    ``received_ce``   segments that arrived with CE
    ``delivered_ce``  segments of ours that the peer reports to have got with CE (with RFC 3168, which tells but that
                      there were some: those acknowledged under ECE)
    """

    __slots__ = ("delivered_ce", "received_ce")

    name: ClassVar[str] = "none"
    accurate: ClassVar[bool] = False  # AE, CWR and ECE are the ACE counter
    level: ClassVar[int] = ASKS_NOTHING  # what a SYN must at least have asked for

    def __init__(self) -> None:
        self.received_ce = 0
        self.delivered_ce = 0

    # --- the handshake -----------------------------------------------------------------------------------------------

    @property
    def granted(self) -> int:
        """The flags of the first SYN,ACK that agrees to it."""
        return 0

    def opening(self, conn: "Connection") -> tuple[int, bytes]:
        """The flags that our SYN or SYN,ACK carries when it is sent now, and what it has as further options."""
        return 0, b""

    def on_opening_sent(self, flags: int) -> None:
        """It left with ``flags``."""

    def on_syn_again(self, seg: Segment) -> bool:
        """In SYN-RECEIVED the peer's SYN came once more. False: it asks for something else, which is an error."""
        return True

    def on_established(self, conn: "Connection", seg: Segment) -> None:
        """``seg`` acknowledged our SYN, or SYN,ACK."""

    def on_synack_again(self, seg: Segment) -> None:
        """The peer's SYN,ACK came once more: it did not get our ACK."""

    def ack_first(self) -> bool:
        """Whether a pure ACK is to leave before any text."""
        return False

    # --- what we send ------------------------------------------------------------------------------------------------

    def flags(self, conn: "Connection", new: bool, pure: bool) -> int:
        """Header flags for a segment sent now, neither SYN nor RST. ``new``: it has text that was never sent before;
        ``pure``: it is an ACK and nothing else, without SACK blocks."""
        return 0

    def code_point(self, new: bool) -> int:
        """What the IP header says of it."""
        return NOT_ECT

    def option(self, conn: "Connection", room: int, text: bool) -> bytes:
        """What feedback takes of the ``room`` bytes of options of a segment sent now. ``text``: it is to carry text."""
        return b""

    def on_sent(self, conn: "Connection", new: bool) -> None:
        """A segment with our ACK and what was last asked for here has left."""

    # --- what arrives ------------------------------------------------------------------------------------------------

    def on_arrival(self, conn: "Connection", seg: Segment, seq: int) -> None:
        """``seg`` is acceptable, by its number and by its ACK; its text is not yet taken."""

    def marked(self, conn: "Connection", seg: Segment, delivered: int) -> int:
        """Bytes of ours that ``seg`` reports as marked, for the first time; it delivers ``delivered`` bytes."""
        return 0


NOT_ECN: Final = Feedback()  # shared, never written to


class Classic(Feedback):
    """RFC 3168: one bit a round trip. ``asked``: what the peer's SYN asked for; ``sends_ect``: our text may say ECT
    (§6.1.1)."""

    __slots__ = ("_asked", "_cwr_at", "_echo", "_plain", "sends_ect")

    name = "classic"
    level = ASKS_CLASSIC

    def __init__(self, asked: int = ASKS_CLASSIC, *, sends_ect: bool = True) -> None:
        super().__init__()
        self.sends_ect = sends_ect
        self._asked = asked
        self._echo = False  # CE came, and no CWR since
        self._plain = False  # the peer's last SYN did not ask
        self._cwr_at = 0  # the number of the last text that carried CWR

    @property
    def granted(self) -> int:
        return ECE

    def opening(self, conn: "Connection") -> tuple[int, bytes]:
        return 0 if self._plain else ECE, b""

    def on_syn_again(self, seg: Segment) -> bool:
        """The peer may have given up asking, when ours was lost (RFC 3168 §6.1.1.1): it hears of no ECN, and gets no
        ECT (§6.1.1). That it asks for the other kind now cannot be (RFC 9768 §3.1.5)."""
        asked = asks(seg.flags)
        self._plain = asked == ASKS_NOTHING
        if self._plain:
            self.sends_ect = False
        return self._plain or asked == self._asked

    def on_established(self, conn: "Connection", seg: Segment) -> None:
        if seg.flags & SYN and seg.flags & (CWR | ECE) != ECE:  # both opened at once
            self.sends_ect = False

    def flags(self, conn: "Connection", new: bool, pure: bool) -> int:
        flags = ECE if self._echo else 0
        return flags | CWR if new and conn.snd.reduced else flags

    def code_point(self, new: bool) -> int:
        return ECT_0 if new and self.sends_ect else NOT_ECT

    def on_sent(self, conn: "Connection", new: bool) -> None:
        snd = conn.snd
        if new and snd.reduced:
            snd.reduced = False
            self._cwr_at = snd.nxt

    def on_arrival(self, conn: "Connection", seg: Segment, seq: int) -> None:
        """§6.1.3. The first mark is echoed at once, and CWR is answered at once: the peer's window may be one segment
        (as Linux). CWR on text that is not new is no answer to what we said."""
        rcv, size = conn.rcv, len(seg.payload)
        if seg.flags & CWR and seq + size > rcv.nxt and size:
            self._echo = False
            rcv.ack = ACK_NOW
        if seg.ecn == CE and size:
            self.received_ce += segments(seg)
            if not self._echo:
                self._echo = True
                rcv.ack = ACK_NOW

    def marked(self, conn: "Connection", seg: Segment, delivered: int) -> int:
        """ECE is old news until the peer has got our CWR: a reduction that was made answers it (§6.1.2)."""
        if not seg.flags & ECE:
            return 0
        snd = conn.snd
        self.delivered_ce += -(-delivered // snd.cc.mss)
        if snd.reduced or snd.absolute(seg.ack) <= self._cwr_at:
            return 0
        return delivered or snd.cc.mss


def segments(seg: Segment) -> int:
    """How many segments ``seg``, which may be a super-segment, was on the wire."""
    size, step = len(seg.payload), seg.gso_size
    return -(-size // step) if size > step > 0 else 1
