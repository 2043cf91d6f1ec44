"""NewReno: the congestion control that the standards describe (RFC 5681, RFC 6582), counting bytes (RFC 3465).

Below ``ssthresh`` the window doubles in a round trip, above it grows by one segment; a loss halves it, a time-out sets
it to one segment::

      cwnd |            . loss
           |          .' |      .' |
           |        .'   |    .'   |  time-out         .'
           |      .'     |  .'     |                 .'    <- congestion avoidance: + mss a round trip
           |     /       |.'       |     _.........-' - - - - ssthresh
           |   _/                  |   _/                  <- slow start: x 2 a round trip
           +----------------------------------------------- time

It knows nothing of delay, and does not pace.
"""

from typing import ClassVar

from usertcp.tcp.cc.base import AckSample, CongestionControl


class NewReno(CongestionControl):
    """``_credit``: bytes acknowledged towards congestion avoidance's next step; ``_prior_*``: before the last loss."""

    __slots__ = ("_credit", "_prior_cwnd", "_prior_ssthresh")

    name: ClassVar[str] = "reno"

    def __init__(self, mss: int) -> None:
        super().__init__(mss)
        self._credit = 0
        self._prior_cwnd = 0
        self._prior_ssthresh = 0

    def on_ack(self, sample: AckSample) -> None:
        """Grow, if the window was used: one that was half empty has not been tried out (RFC 7661 §4.1).

        In slow start the window grows by what is acknowledged, since one ACK may answer a whole burst (RFC 3465 §2.2
        allows two segments an ACK, thinking of two segments), but by no more than was in the network: after a time-out
        an ACK covers data that left it long ago (the concern of RFC 3465 §2.3).
        """
        if not sample.cwnd_limited:
            return
        acked, cwnd = sample.acked, self.cwnd
        if cwnd < self.ssthresh:
            cwnd += min(acked, sample.flight)
            if cwnd <= self.ssthresh:
                self.cwnd = cwnd
                return
            acked = cwnd - self.ssthresh  # what is left when slow start ends counts for what follows
            cwnd = self.ssthresh
        self._credit += acked
        if self._credit >= cwnd:
            self._credit -= cwnd
            cwnd += self._mss
        self.cwnd = cwnd

    def on_congestion(self, flight: int, now: int, *, ecn: bool = False) -> None:
        """Halve (RFC 5681 §3.2 step 2)."""
        self._remember()
        self.ssthresh = max(flight >> 1, 2 * self._mss)

    def on_rto(self, flight: int, now: int, *, reduced: bool) -> None:
        """Start over from one segment, the loss window; ``ssthresh`` falls only once for a segment (RFC 5681 §3.1)."""
        if not reduced:
            self._remember()
            self.ssthresh = max(flight >> 1, 2 * self._mss)
        self.cwnd = self._mss

    def on_recovered(self, now: int) -> None:
        """Go on in congestion avoidance (RFC 6582 §3.2 step 3)."""
        self.cwnd = self.ssthresh

    def on_spurious(self) -> None:
        """As if it had not happened."""
        self.cwnd = max(self.cwnd, self._prior_cwnd)
        self.ssthresh = max(self.ssthresh, self._prior_ssthresh)

    def _remember(self) -> None:
        """Note the state before a reduction."""
        self._credit = 0
        self._prior_cwnd = self.cwnd
        self._prior_ssthresh = self.ssthresh
