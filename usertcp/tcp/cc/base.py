"""Congestion control: how much may be in flight, and how fast.

RFC 5681 separates two questions. *How much* data the network can hold is estimated here, in one number of bytes, the
congestion window, for some algorithms beside a rate. *What* to send next, and whether something is lost, is the
sender's. So an algorithm is told about acknowledgments and losses and answers with ``cwnd`` and ``pacing_rate``; it
sees neither segments nor sequence numbers nor timers, and never sends. Everything counts bytes, because bursts and
acknowledgments come in all sizes.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, Final

from usertcp.native import mypyc_attr

UNLIMITED: Final = 0x7FFF_FFFF  # bytes; the first ssthresh, "arbitrarily high" (RFC 5681 §3.1)


def initial_window(mss: int) -> int:
    """What may be sent before the first acknowledgment of data, bytes: ten segments, about (RFC 6928 §2)."""
    return min(10 * mss, max(2 * mss, 14600))


class AckSample:
    """What one acknowledgment told, with a sample of the delivery rate (draft-ietf-ccwg-bbr §4.1). One object a
    connection, filled anew for every ACK: not to be kept.

    ``now``              when it came, ns
    ``acked``            bytes that it delivers: acknowledged, or reported by SACK, for the first time
    ``lost``             bytes held for lost since the last ACK
    ``flight``           bytes in the network just before it came
    ``pipe``             bytes in the network now (RFC 6675 §4)
    ``rtt``              of the newest segment that it delivers and that was sent once, ns; -1: it gives none
    ``min_rtt, srtt``    of the connection so far, ns; 0: no sample yet
    ``cwnd_limited``     the window was full, or more than half full in slow start, during the last round trip: it was
                         tried out and may grow (RFC 7661 §4.1 in Linux's reading)
    ``delivered``        bytes delivered since the connection began
    ``ecn_marked``       bytes that the receiver reports marked Congestion Experienced with it
    ``in_recovery``      a fast recovery or a window reduction is under way
    ``rate``             bytes a second at which the newest delivered record's flight was delivered; 0: no sample
    ``interval``         over how many ns ``rate`` was measured
    ``app_limited``      that record was sent when the application, not the window, was the limit
    ``prior_delivered``  ``delivered`` when that record was sent: a round trip began when it passes the last round's end
    ``tx_in_flight``     bytes in the network just after that record was sent
    ``lost_since``       bytes held for lost since that record was sent
    """

    __slots__ = (
        "acked",
        "app_limited",
        "cwnd_limited",
        "delivered",
        "ecn_marked",
        "flight",
        "in_recovery",
        "interval",
        "lost",
        "lost_since",
        "min_rtt",
        "now",
        "pipe",
        "prior_delivered",
        "rate",
        "rtt",
        "srtt",
        "tx_in_flight",
    )

    def __init__(self, now: int = 0, *, acked: int = 0, flight: int = 0, rtt: int = -1) -> None:
        self.now = now
        self.acked = acked
        self.flight = flight
        self.rtt = rtt
        self.lost = self.pipe = 0
        self.min_rtt = self.srtt = 0
        self.cwnd_limited = True
        self.delivered = self.ecn_marked = 0
        self.in_recovery = self.app_limited = False
        self.rate = self.interval = 0
        self.prior_delivered = self.tx_in_flight = self.lost_since = 0


@mypyc_attr(allow_interpreted_subclasses=True)
class CongestionControl(ABC):
    """One connection's view of the network. Subclass it to write an algorithm; ``registry`` gives it a name.

    The sender keeps to ``pipe <= cwnd``, where pipe is what it believes to be in the network. The story of a
    connection, as this class is told it:

    1. *All is well.* Every acknowledgment that delivers something comes as ``on_ack``. The window grows: fast (slow
       start) while ``cwnd < ssthresh``, that is, while below what the network is known to carry; then cautiously.
    2. *A loss is inferred*, or the network says that it is congested (ECN): ``on_congestion``, once for a window of
       data. The algorithm says in ``ssthresh`` how much the network is now thought to hold. Until ``on_recovered``
       (everything that was in flight is acknowledged) the sender brings ``cwnd`` there by Proportional Rate Reduction
       (RFC 9937), and there is no ``on_ack``; but an algorithm with ``keeps_window`` does without, hears every ACK and
       sets ``cwnd`` itself.
    3. *The retransmission timer ran out*, nothing is heard: ``on_rto``. It ends a recovery that was under way; the
       window starts over from one segment, and acknowledgments come as ``on_ack``.
    4. *It was a false alarm* (the original arrived after all): ``on_spurious`` takes the last reduction back.
    5. *The user had nothing to send* for longer than the RTO: ``on_idle``, before the next data goes out. What was
       known about the network is stale.
    6. *The SYN was lost*: ``on_syn_lost``, when the connection is established.

    ``cwnd``      congestion window, bytes; never below one ``mss``. During PRR the sender writes it
    ``ssthresh``  where slow start ends, bytes
    ``mss``       the largest segment's payload, bytes (RFC 5681: SMSS). May be set when the path turns out different
    """

    __slots__ = ("_mss", "cwnd", "ssthresh")

    name: ClassVar[str]
    paced: ClassVar[bool] = False  # True: ``pacing_rate`` may say something
    keeps_window: ClassVar[bool] = False  # True: sets ``cwnd`` itself in recovery too; a model of the path, not of loss

    def __init__(self, mss: int) -> None:
        self._mss = mss
        self.cwnd = initial_window(mss)
        self.ssthresh = UNLIMITED

    @property
    def mss(self) -> int:
        """SMSS, bytes. With a smaller one the window has as many segments as before, and not as many bytes: else what
        was found to be too large would go again as a larger burst (RFC 5681 §3.1)."""
        return self._mss

    @mss.setter
    def mss(self, mss: int) -> None:
        if mss < self._mss:
            self.cwnd = self.cwnd * mss // self._mss
        self._mss = mss
        self.cwnd = max(self.cwnd, mss)

    def on_syn_lost(self) -> None:
        """A SYN or SYN,ACK had to be sent again: begin with one segment (RFC 5681 §3.1)."""
        self.cwnd = self._mss

    @abstractmethod
    def on_ack(self, sample: AckSample) -> None:
        """Something was delivered; everything known about it is in ``sample``."""

    @abstractmethod
    def on_congestion(self, flight: int, now: int, *, ecn: bool = False) -> None:
        """A loss was inferred, or (``ecn``) the network marked instead of dropping, with ``flight`` bytes in it."""

    @abstractmethod
    def on_rto(self, flight: int, now: int, *, reduced: bool) -> None:
        """The retransmission timer ran out with ``flight`` bytes believed in the network; ``reduced``: ``ssthresh`` has
        been lowered already for what is outstanding (RFC 5681 §3.1)."""

    @abstractmethod
    def on_recovered(self, now: int) -> None:
        """All that was outstanding at the last ``on_congestion`` is acknowledged."""

    def on_unused(self, now: int, acked: int) -> None:
        """As ``on_ack`` for an answer of ``acked`` bytes to all that was in the network, which was little."""
        sample = AckSample(now, acked=acked, flight=acked)
        sample.cwnd_limited = False
        self.on_ack(sample)

    @abstractmethod
    def on_spurious(self) -> None:
        """The last ``on_congestion`` or ``on_rto`` was without cause (RFC 4015)."""

    def on_lost(  # noqa: B027  (most need not know)
        self, size: int, tx_in_flight: int, lost_since: int, app_limited: bool, now: int
    ) -> None:
        """``size`` bytes, sent when ``tx_in_flight`` bytes were in the network (themselves included), are held for
        lost; with them ``lost_since`` bytes since they were sent. Told for each record, before that ACK's ``on_ack``.
        """

    def on_idle(self, idle: int, rto: int, now: int) -> None:
        """Nothing was in the network and nothing sent for ``idle`` ns, longer than ``rto``; now something will be."""
        self.cwnd = min(self.cwnd, initial_window(self._mss))  # RFC 5681 §4.1

    def on_send(self, now: int, *, app_limited: bool, flight: int) -> None:  # noqa: B027
        """Data is about to be sent with ``flight`` bytes in the network (0: a start from idleness)."""

    def pacing_rate(self, srtt: int) -> int:
        """Bytes a second at which to send, given the smoothed round-trip time in ns; 0: as fast as the window
        allows."""
        return 0
