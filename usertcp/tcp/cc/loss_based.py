"""What algorithms that take loss for congestion have in common: RFC 5681 without its two numbers.

Such an algorithm is a sawtooth: it grows until the network drops something, falls to a share ``beta`` of what it had
reached, and grows again. The algorithms differ in ``beta`` and in how they grow near the top (``_avoid``). Everything
else is here: slow start, the time-out, taking a reduction back, and two kinds of doubt about a window that has not been
tried out lately:

- *After idleness* the window decays by half for each RTO that passed (RFC 2861 §3.1, as Linux does it), but not below
  the initial window, and ``ssthresh`` remembers three quarters of it: if the network is as it was, slow start is back
  there soon. RFC 5681 §4.1 would start over from the initial window at once; RFC 7661, RFC 2861's successor, would keep
  the window for five minutes.
- *While the application is the limit* the window does not grow, and a loss reduces what was in use, not the number that
  was not (RFC 7661 §4.2 and §4.4.1; its five-minute phase of non-validation is not kept apart).

What is reduced is the window and not FlightSize (RFC 5681 §3.1), as in Linux: when a loss is noticed, the data reported
beyond it has left the network already, and with small windows that would make a half of a half. RFC 9438 §4.6 allows
it for windows that grow only when they are full, which is the case here.
"""

from abc import abstractmethod
from typing import ClassVar

from usertcp.native import mypyc_attr
from usertcp.tcp.cc.base import AckSample, CongestionControl, initial_window


@mypyc_attr(allow_interpreted_subclasses=True)
class LossBased(CongestionControl):
    """``beta`` and ``beta_ecn`` are fractions, (numerator, denominator): what is left of the window after a loss, and
    after a mark of Explicit Congestion Notification (ABE, RFC 8511).

    ``_prior_cwnd``, ``_prior_ssthresh``   before the last reduction
    ``_used``                              the most in flight since the window was last full, bytes; 0: it is in use
    """

    __slots__ = ("_prior_cwnd", "_prior_ssthresh", "_used")

    beta: ClassVar[tuple[int, int]]
    beta_ecn: ClassVar[tuple[int, int]]

    def __init__(self, mss: int) -> None:
        super().__init__(mss)
        self._prior_cwnd = 0
        self._prior_ssthresh = 0
        self._used = 0

    def on_ack(self, sample: AckSample) -> None:
        """Grow, if the window was used: one that was half empty has not been tried out (RFC 7661 §4.3)."""
        if not sample.cwnd_limited:
            if sample.flight > self._used:
                self._used = sample.flight
            return
        self._used = 0
        acked = sample.acked
        if self.cwnd < self.ssthresh:
            acked = self._slow_start(sample)
        if acked:
            self._avoid(acked, sample)

    def on_unused(self, now: int, acked: int) -> None:
        if acked > self._used:
            self._used = acked

    def _slow_start(self, sample: AckSample) -> int:
        """Grow by what is acknowledged, up to ``ssthresh``; returns the bytes left when it is reached, which count for
        what follows.

        All that is acknowledged counts, since one ACK may answer a whole burst (RFC 3465 §2.2 allows two segments an
        ACK, thinking of two segments), but no more than was in the network: after a time-out an ACK may cover data
        that left it long ago (the concern of RFC 3465 §2.3).
        """
        cwnd = self.cwnd + min(sample.acked, sample.flight)
        self.cwnd = min(cwnd, self.ssthresh)
        return cwnd - self.cwnd

    @abstractmethod
    def _avoid(self, acked: int, sample: AckSample) -> None:
        """Congestion avoidance: ``acked`` bytes more were acknowledged, and the window is at or above ``ssthresh``."""

    def on_congestion(self, flight: int, now: int, *, ecn: bool = False) -> None:
        """Fall to ``beta`` of the window (RFC 5681 §3.2 step 2), or, when the network only warned, to ``beta_ecn``.

        ABE holds for congestion avoidance: slow start may have overshot by as much as the whole window, and there a
        mark counts as a loss (RFC 8511 §3).
        """
        avoiding = self.cwnd >= self.ssthresh
        self._remember()
        self._reduce(flight, self.beta_ecn if ecn and avoiding else self.beta)

    def on_rto(self, flight: int, now: int, *, reduced: bool) -> None:
        """Start over from one segment, the loss window; ``ssthresh`` falls only once for a window (RFC 5681 §3.1)."""
        if not reduced:
            self._remember()
            self._reduce(flight, self.beta)
        self.cwnd = self._mss

    def _reduce(self, flight: int, beta: tuple[int, int]) -> None:
        """Set ``ssthresh``. Two segments are the least (RFC 5681 §3.1 equation (4))."""
        self.ssthresh = max(self._in_use(flight) * beta[0] // beta[1], 2 * self._mss)

    def _in_use(self, flight: int) -> int:
        """The window, as far as it was used (RFC 7661 §4.4.1), bytes."""
        return min(self.cwnd, max(self._used, flight)) if self._used else self.cwnd

    def _remember(self) -> None:
        """Note the state before a reduction."""
        self._prior_cwnd = self.cwnd
        self._prior_ssthresh = self.ssthresh

    def on_recovered(self, now: int) -> None:
        """Go on in congestion avoidance (RFC 6582 §3.2 step 3, RFC 9937 §5)."""
        self.cwnd = max(self.ssthresh, self._mss)

    def on_spurious(self) -> None:
        """As if it had not happened, unless things are better already (RFC 4015 §3.2 and Linux)."""
        self.cwnd = max(self.cwnd, self._prior_cwnd)
        self.ssthresh = max(self.ssthresh, self._prior_ssthresh)

    def on_idle(self, idle: int, rto: int, now: int) -> None:
        """Halve the window for each ``rto`` of idleness, and remember where it was (RFC 2861 §3.1)."""
        cwnd = self.cwnd
        self.ssthresh = max(self.ssthresh, cwnd * 3 // 4)
        self.cwnd = max(cwnd >> min(idle // max(rto, 1), 31), min(initial_window(self._mss), cwnd))
