"""How large a receive window the path and the user need: dynamic right-sizing.

A sender can have at most one window on the way per round trip, so the window must be as large as what the path carries
in that time. The receiver cannot see the sender's congestion window, but it sees what comes of it: how many bytes the
*user* took in the last round trip. Offering twice that leaves a sender that is held by the network room for one more
round trip, in which it repairs a loss. A sender in slow start sends twice as much in each round trip as in the one
before, and by its end has twice of that in flight; so what a round trip brought more than any before it (at most its
half) counts eight times on top. That is something to spare: round trips do not begin at the same time on both sides::

      round trip                         1     2     3     4
      the user takes                     a    2a    4a    8a      in slow start
      the limit from then on            6a   12a   24a   48a
      in flight at the end of the next  4a    8a   16a   32a

What waits behind a gap is nobody's fault and comes on top, at once: otherwise each loss would halve the window of a
sender in slow start for a round trip. But a user who does not read takes nothing, and nothing grows; nor does it for a
trickle, however long it lasts. The limit never becomes smaller. Whoever chose a size (SO_RCVBUF) keeps it.

The round trip as a receiver knows it is the age of the timestamp that a data segment echoes. It is too long when the
peer had nothing to send; so it is raised by little and lowered at once. On a LAN our timestamp clock is too coarse, and
the shortest round trip that the sending half has seen, the handshake's at least, serves; so it does without timestamps.
If there is none either (the SYN was sent twice) it is the time in which the peer uses up a window: an upper bound.

The idea is Fisk's and Feng's (Dynamic Right-Sizing, 2001); Linux does much the same. Nothing here sets the window:
``receiver`` does, from the limit of its buffer.
"""

from typing import Final

from usertcp.tcp.buffers import ReceiveBuffer
from usertcp.units import MS

COARSE: Final = 1 * MS  # the step of our timestamp clock: an echo of that age says only that it was no longer
SLACK: Final = 4 * MS  # a busy driver's turn may take longer than a LAN's round trip; what took longer was a pause
BEGIN: Final = 8  # the first limit is grown beyond when a round trip brings more than this part of it


class WindowTuner:
    """Lets the limit of ``buffer`` grow up to ``maximum``, measuring at most once a round trip.

    ``bar, due``  :meth:`measure` when text reaches beyond the number ``bar`` at the time ``due`` or later: before that
                  the round trip is not over, or the user cannot have taken more than in an earlier one
    ``rtt``       the round trip as the receiver knows it, ns; 0: not yet
    ``taken``     the most bytes that the user took in a round trip
    """

    __slots__ = ("_mark", "_mark_at", "_seq", "_wanted", "bar", "buffer", "due", "maximum", "rtt", "taken")

    def __init__(self, buffer: ReceiveBuffer, maximum: int) -> None:
        self.buffer = buffer
        self.maximum = maximum
        self.due = self.rtt = 0
        self.taken = buffer.limit // BEGIN
        self._wanted = buffer.limit  # what may come, besides what waits behind gaps
        self._seq = 0  # where the user was when the round trip began
        self.bar = 0
        self._mark = self._mark_at = 0  # a right edge, and when it was the newest

    def begin(self, seq: int) -> None:
        """The stream begins with the number ``seq``."""
        self._seq = seq
        self.bar = seq + self.taken

    def measure(self, nxt: int, edge: int, echoed_at: int, ours: int, now: int) -> None:
        """RCV.NXT is ``nxt``, the window's right edge ``edge``; the segment echoes a timestamp that we sent at
        ``echoed_at`` (-1: none), and ``ours`` is the sending half's shortest round trip (0: it has none). All in ns."""
        self._sample(nxt, edge, echoed_at, ours, now)
        if not self.rtt:
            return
        read = self.buffer.read_seq
        taken = read - self._seq
        if taken > self.taken and now <= self.due + self.rtt + SLACK:
            self._grow(taken)
        self._seq = read
        self.bar = read + self.taken
        self.due = now + self.rtt

    def _sample(self, nxt: int, edge: int, echoed_at: int, ours: int, now: int) -> None:
        rtt = self.rtt
        if echoed_at >= 0:
            age = now - echoed_at
            if age <= COARSE:
                self.rtt = min(ours or COARSE, COARSE)
            elif not rtt or age < rtt:
                self.rtt = age
            else:
                self.rtt = rtt + (min(age, 2 * rtt) - rtt >> 3)
        elif ours:
            self.rtt = ours
        elif nxt >= self._mark:
            if self._mark_at:
                whole = max(now - self._mark_at, 1)
                self.rtt = min(rtt or whole, whole)
            self._mark = edge
            self._mark_at = now

    def _grow(self, taken: int) -> None:
        more = min(taken - self.taken, taken >> 1)
        self.taken = taken
        self._wanted = max(self._wanted, 2 * taken + 8 * more)
        self.make_room()

    def make_room(self) -> None:
        """Let the limit be what is wanted and what waits behind gaps: called when that has become more."""
        buffer = self.buffer
        limit = min(self._wanted + buffer.top - buffer.nxt, self.maximum, buffer.memory.largest)
        if limit > buffer.limit and not buffer.memory.pressed:
            buffer.limit = limit
