"""Congestion control: how much may be in flight.

RFC 5681 separates two questions. *How much* data the network can hold is estimated here, in one number of bytes, the
congestion window. *What* to send next, and whether something is lost, is the sender's. So an algorithm is told about
acknowledgments and losses and answers with ``cwnd``; it sees neither segments nor sequence numbers nor timers, and
never sends. Everything counts bytes, because bursts and acknowledgments come in all sizes.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

UNLIMITED: Final = 0x7FFF_FFFF  # bytes; the first ssthresh, "arbitrarily high" (RFC 5681 §3.1)


def initial_window(mss: int) -> int:
    """What may be sent before the first acknowledgment of data, bytes: ten segments, about (RFC 6928 §2)."""
    return min(10 * mss, max(2 * mss, 14600))


class CongestionControl(ABC):
    """One connection's view of the network. Subclass it to write an algorithm; ``registry`` gives it a name.

    The sender keeps to ``flight <= cwnd``, where flight is what it believes to be in the network. The story of a
    connection, as this class is told it:

    1. *All is well.* Every acknowledgment of new data comes as ``on_ack``. The window grows: fast (slow start) while
       ``cwnd < ssthresh``, that is, while below what the network is known to carry; then cautiously.
    2. *A loss is inferred*, from duplicate or selective acknowledgments: ``on_congestion``, once for a window of data.
       The algorithm says how much the network is now thought to hold. Until ``on_recovered`` (everything that was in
       flight is acknowledged) there is no ``on_ack``. That each duplicate acknowledgment means a segment has left the
       network, the "inflation" of RFC 6582 §3.2, is no change of mind about the network: the sender counts it.
    3. *The retransmission timer ran out*, nothing is heard: ``on_rto``. It ends a recovery that was under way; the
       window starts over from one segment, and acknowledgments come as ``on_ack``.
    4. *It was a false alarm* (the original arrived after all): ``on_spurious`` takes the last reduction back.
    5. *The user had nothing to send* for longer than the RTO: ``on_idle``, before the next data goes out. What was
       known about the network is stale.
    6. *The SYN was lost*: ``on_syn_lost``, when the connection is established.

    ``cwnd``      congestion window, bytes; never below one ``mss``
    ``ssthresh``  where slow start ends, bytes
    ``mss``       the largest segment's payload, bytes (RFC 5681: SMSS). May be set when the path turns out different
    """

    __slots__ = ("_mss", "cwnd", "ssthresh")

    name: ClassVar[str]

    def __init__(self, mss: int) -> None:
        self._mss = mss
        self.cwnd = initial_window(mss)
        self.ssthresh = UNLIMITED

    @property
    def mss(self) -> int:
        """SMSS, bytes. A new value changes the initial window while it still is one, else only the steps."""
        return self._mss

    @mss.setter
    def mss(self, mss: int) -> None:
        if self.cwnd == initial_window(self._mss):
            self.cwnd = initial_window(mss)
        self._mss = mss
        self.cwnd = max(self.cwnd, mss)

    def on_syn_lost(self) -> None:
        """A SYN or SYN,ACK had to be sent again: begin with one segment (RFC 5681 §3.1)."""
        self.cwnd = self._mss

    @abstractmethod
    def on_ack(self, acked: int, flight: int, rtt: int, now: int) -> None:
        """``acked`` bytes were acknowledged for the first time, at ``now`` (ns).

        ``flight`` bytes were believed in the network just before; fewer than ``acked`` when some of those had been
        given up for lost. ``rtt`` is the sample in ns, -1 when the ACK gave none.
        """

    @abstractmethod
    def on_congestion(self, flight: int, now: int) -> None:
        """A loss was inferred, or the network says so (ECN), with ``flight`` bytes in the network."""

    @abstractmethod
    def on_rto(self, flight: int, now: int) -> None:
        """The retransmission timer ran out with ``flight`` bytes believed in the network."""

    @abstractmethod
    def on_recovered(self, now: int) -> None:
        """All that was outstanding at the last ``on_congestion`` is acknowledged."""

    @abstractmethod
    def on_spurious(self) -> None:
        """The last ``on_congestion`` or ``on_rto`` was without cause (RFC 4015)."""

    def on_idle(self, idle: int) -> None:
        """Nothing was sent for ``idle`` ns, more than an RTO: restart from the initial window (RFC 5681 §4.1)."""
        self.cwnd = min(self.cwnd, initial_window(self._mss))

    def pacing_rate(self, rtt: int) -> int:
        """Bytes a second at which to send, given the smoothed ``rtt`` in ns; 0: as fast as the window allows."""
        return 0
