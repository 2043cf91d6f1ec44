"""The tail loss probe: something to be answered, when the last segments of a burst may have been lost (RFC 8985 §7).

A loss is found by what is delivered after it. After the last segment nothing comes, and only the retransmission
time-out would tell, which is slow and empties the window. So about two round trips after the last transmission one more
segment is sent, new text if there is any, else the last segment once more: its answer brings the SACKs from which RACK
sees the losses. If the probe itself mended the only loss, nobody reports it; that is concluded here, and the window
reduced."""

from typing import Final

from usertcp.units import MS, SEC

MAX_ACK_DELAY: Final = 200 * MS  # what a peer may wait before it acknowledges a lone segment (RFC 8985 §7.2)
NO_RTT_PTO: Final = 1 * SEC  # without any sample (RFC 8985 §7.2)


class TailLossProbe:
    """``end``: SND.NXT when the probe left, -1 when none is under way; ``is_retrans``: it repeated old text; ``due``:
    it is to be sent now; ``sampled``: a round trip was measured since the last one; ``sent``: how many, ever."""

    __slots__ = ("due", "end", "is_retrans", "sampled", "sent")

    def __init__(self) -> None:
        self.end = -1
        self.is_retrans = False
        self.due = False
        self.sampled = True
        self.sent = 0

    def timeout(self, srtt: int, lone: bool) -> int:
        """The probe time-out, ns after the last transmission; ``lone``: a single segment is in flight (RFC 8985
        §7.2)."""
        if not srtt:
            return NO_RTT_PTO
        return 2 * srtt + (MAX_ACK_DELAY if lone else 2 * MS)  # Linux's margin for late clocks

    def on_sent(self, nxt: int, is_retrans: bool) -> None:
        """The probe has left; SND.NXT is then ``nxt``."""
        self.end = nxt
        self.is_retrans = is_retrans
        self.due = self.sampled = False
        self.sent += 1

    def cancel(self) -> None:
        """A recovery begins, which knows better."""
        self.end = -1
        self.due = False

    def mended(self, ack: int, dsack: bool, duplicate: bool) -> bool:
        """An ACK came (RFC 8985 §7.4.2). True: the probe repaired a loss, the window must be reduced.

        ``dsack``: it reports the probe as received twice; ``duplicate``: it brings nothing new.
        """
        if self.end < 0 or ack < self.end:
            return False
        if not self.is_retrans or dsack or (ack == self.end and duplicate):
            self.end = -1  # new text was answered, or the original arrived as well
            return False
        if ack > self.end:
            self.end = -1
            return True
        return False
