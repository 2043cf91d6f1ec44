"""Which way of ECN a connection uses: asked for by the SYN, granted by the SYN,ACK (RFC 3168 §6.1.1, RFC 9768 §3.1).

::

    SYN (AE,CWR,ECE)         SYN,ACK that grants it                        the two then use
    1,1,1  AccECN            0,1,0  0,1,1  1,0,0  1,1,0  (how it arrived)  AccECN
                             0,0,1                                         RFC 3168
                             0,0,0, or 1,1,1: our own flags reflected      neither
    0,1,1  RFC 3168          0,0,1                                         RFC 3168
    0,0,0  nothing           0,0,0                                         neither

A SYN with flags that gets no answer may have met somebody who drops what he does not know: it is sent again without
them, at once when it asked for RFC 3168 (§6.1.1.1; as Linux), at the second time when for AccECN (§3.1.4.1).
"""

from typing import TYPE_CHECKING, Final

from usertcp.tcp.accecn import Accurate
from usertcp.tcp.ecn import NOT_ECN, Classic, Feedback
from usertcp.tcp.ecn_policy import ASKS_ACCURATE, ASKS_NOTHING, SYN_FLAGS, Ecn, asks
from usertcp.tcp.state import State
from usertcp.wire.ecn import NOT_ECT
from usertcp.wire.tcp import ACE_SHIFT, ACK, CWR, ECE, Segment

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection

_TIMES: Final = (0, 1, 2)  # that it is sent with them before it is sent without


class Asking(Feedback):
    """Our SYN is on its way and asks for ``level``."""

    __slots__ = ("_level", "gave_up")

    def __init__(self, level: int) -> None:
        super().__init__()
        self._level = level
        self.gave_up = False  # a SYN without flags has left

    def opening(self, conn: "Connection") -> tuple[int, bytes]:
        return SYN_FLAGS[self._level] if conn.snd.retries < _TIMES[self._level] else 0, b""

    def on_opening_sent(self, flags: int) -> None:
        self.gave_up = not flags

    def answered(self, seg: Segment) -> Feedback:
        """What the SYN,ACK ``seg`` makes of it."""
        ace = seg.flags >> ACE_SHIFT & 7
        if self._level == ASKS_ACCURATE and ace not in (0b000, 0b001, 0b111):  # also 101, which is reserved (§3.1.3)
            return Accurate(seg)
        if seg.flags & (CWR | ECE) == ECE:
            return Classic(sends_ect=not self.gave_up)  # RFC 3168 §6.1.1
        return NOT_ECN


def ask(policy: Ecn) -> Feedback:
    """Before our SYN leaves."""
    return Asking(policy.asks) if policy.asks else NOT_ECN


def agree(conn: "Connection", seg: Segment) -> Feedback:
    """After the peer's SYN or SYN,ACK ``seg``."""
    policy, so_far = conn.config.ecn, conn.ecn
    if seg.flags & ACK:
        return so_far.answered(seg) if isinstance(so_far, Asking) else NOT_ECN
    if conn.state is not State.SYN_SENT:
        return grant(policy.grants, seg)
    feedback = grant(min(policy.asks, policy.grants), seg)  # both open at once: what both SYNs ask for
    if isinstance(so_far, Asking) and so_far.gave_up and isinstance(feedback, (Classic, Accurate)):
        feedback.sends_ect = False
    return feedback


def grant(most: int, seg: Segment) -> Feedback:
    """What the SYN ``seg`` gets, which is at most ``most``."""
    asked = asks(seg.flags)
    if ASKS_NOTHING in (asked, most):
        return NOT_ECN
    if asked == most == ASKS_ACCURATE:
        return Accurate(seg)
    if seg.flags & (CWR | ECE) != CWR | ECE or seg.ecn != NOT_ECT:  # a SYN that says ECT: somebody mangles the field
        return NOT_ECN
    return Classic(asked)
