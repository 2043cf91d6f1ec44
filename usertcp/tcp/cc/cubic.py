"""CUBIC (RFC 9438): after a loss, quickly back to near the old window, slowly past it, and then faster and faster.

Reno's slope, one segment a round trip, takes minutes to fill a long fast path again. CUBIC's window is a function of
the *time* since the last reduction, whatever the round-trip time::

      W_cubic(t) = C (t - K)^3 + W_max        C = 0.4 segments/s^3

      cwnd |  W_max            _____              .'
           |   |\\         .--'     '--.        .'   <- convex: looking for what is new beyond W_max
           |   | \\     .'  concave     '-----'
           |   |  \\  .'                  t = K: back at W_max
           |   |   \\/  beta W_max
           +-------------------------------------- time

At small windows or short round trips that is slower than Reno; there an estimate of Reno's window, ``W_est``, counts
instead (the Reno-friendly region). Slow start ends early by HyStart++ (``hystart``).

All arithmetic is in integers, bytes and nanoseconds, so that every machine computes the same windows, and the window
moves by whole segments. Where the RFC leaves a choice or Linux does otherwise:

- *Nothing known of the path's capacity*, because slow start ended by delay, or after a time-out (W_max is then the
  window itself, K = 0, RFC 9438 §4.8 and §4.10): the curve would add one segment in the first second and a half. As
  Linux, the window grows by at least a twentieth a round trip until a loss tells W_max.
- *t + RTT* in the target: the smoothed RTT, as the RFC; Linux adds the shortest one seen.
- *Reno-friendly region*: alpha becomes 1 when W_est has reached the window before the reduction, as the RFC; Linux
  stays at 0.53 and so is a little slower there.
- *An epoch ends with slow start* too (after idleness), not only with a reduction: it measures one stage of congestion
  avoidance (RFC 9438 §4.1.2).
- *Fast convergence* is always on, as in Linux.

It does not pace.
"""

from typing import ClassVar, Final

from usertcp.native import mypyc_attr
from usertcp.tcp.cc.base import UNLIMITED, AckSample
from usertcp.tcp.cc.hystart import HyStart
from usertcp.tcp.cc.loss_based import LossBased
from usertcp.units import SEC

C_NUMERATOR: Final = 4  # C = 0.4 segments/s^3 (RFC 9438 §5.1)
C_DENOMINATOR: Final = 10 * SEC**3  # in segments/ns^3
ALPHA: Final = (9, 17)  # 3 (1 - beta) / (1 + beta), beta = 0.7 (RFC 9438 §4.3)
UNKNOWN_GROWTH: Final = 20  # a 20th of the window a round trip while W_max is not known (Linux)
NO_EPOCH: Final = -1


def cube_root(value: int) -> int:
    """The largest integer whose cube is not above ``value`` (Newton's method, from above)."""
    if value <= 0:
        return 0
    root = 1 << -(-value.bit_length() // 3)
    while True:
        better = (2 * root + value // (root * root)) // 3
        if better >= root:
            return root
        root = better


@mypyc_attr(allow_interpreted_subclasses=True)
class Cubic(LossBased):
    """``_w_max``   W_max, bytes; 0: not known
    ``_origin``     the curve's plateau in this epoch: W_max, or the window when the epoch began
    ``_k``          K, ns
    ``_epoch``      t_epoch, moved on by every pause in which the window was not in use, ns; NO_EPOCH: none
    ``_w_est``      W_est, bytes
    ``_cwnd_prior``  cwnd_prior: the window when ``ssthresh`` was last set, bytes
    ``_credit``, ``_est_credit``  acknowledged towards the next step of the window and of W_est
    ``_heard``      when the last ACK came, ns
    ``_undo``       all but the credits, before the last reduction (RFC 9438 §4.9)
    """

    __slots__ = (
        "_credit",
        "_cwnd_prior",
        "_epoch",
        "_est_credit",
        "_heard",
        "_hystart",
        "_k",
        "_origin",
        "_undo",
        "_w_est",
        "_w_max",
    )

    name: ClassVar[str] = "cubic"
    beta: ClassVar[tuple[int, int]] = (7, 10)  # RFC 9438 §4.6
    beta_ecn: ClassVar[tuple[int, int]] = (17, 20)  # RFC 8511 §3.1

    def __init__(self, mss: int) -> None:
        super().__init__(mss)
        self._w_max = 0
        self._origin = 0
        self._k = 0
        self._epoch = NO_EPOCH
        self._w_est = 0
        self._cwnd_prior = 0
        self._credit = 0
        self._est_credit = 0
        self._heard = 0
        self._hystart: HyStart | None = None  # made when the window first grows: a short connection's never does
        self._undo = (0, 0, 0, NO_EPOCH, 0, 0)

    # --- growth ------------------------------------------------------------------------------------------------------

    def on_ack(self, sample: AckSample) -> None:
        """The time in which the window was not in use is no part of t (RFC 9438 §4.2, §5.8)."""
        if not sample.cwnd_limited:
            self._pause(sample.now)
        self._heard = sample.now
        super().on_ack(sample)

    def on_unused(self, now: int, acked: int) -> None:
        self._pause(now)
        self._heard = now
        if acked > self._used:
            self._used = acked

    def on_send(self, now: int, *, app_limited: bool, flight: int) -> None:
        """Nor is idleness (RFC 9438 §5.8)."""
        if not flight:
            self._pause(now)
            self._heard = now

    def _pause(self, now: int) -> None:
        if self._epoch != NO_EPOCH:
            self._epoch += now - max(self._heard, self._epoch)

    def _slow_start(self, sample: AckSample) -> int:
        """HyStart++ for the first slow start, the only one that does not know where to end (RFC 9406 §4.3)."""
        self._epoch = NO_EPOCH
        if self.ssthresh != UNLIMITED:
            return super()._slow_start(sample)
        hystart = self._hystart
        if hystart is None:
            hystart = self._hystart = HyStart()
        self.cwnd += hystart.grow(sample, min(sample.acked, sample.flight), self._mss)
        if hystart.over:
            self.ssthresh = self._cwnd_prior = self.cwnd
        return 0

    def _avoid(self, acked: int, sample: AckSample) -> None:
        """The larger of W_cubic and W_est (RFC 9438 §4.2)."""
        if self._epoch == NO_EPOCH:
            self._start_epoch(sample.now)
        elapsed = sample.now - self._epoch
        self._follow_reno(acked)
        cwnd = self.cwnd
        if cwnd < self._w_est and self._w_cubic(elapsed) < self._w_est:
            self.cwnd = self._w_est  # Reno-friendly region (RFC 9438 §4.3)
            return
        target = min(max(self._w_cubic(elapsed + sample.srtt), cwnd), cwnd * 3 // 2)
        if not self._w_max:
            target = max(target, cwnd + cwnd // UNKNOWN_GROWTH)
        self._credit += acked * (target - cwnd)  # (target - cwnd) / cwnd for each byte (RFC 9438 §4.4, §4.5)
        steps = self._credit // (cwnd * self._mss)
        if steps:
            self._credit -= steps * cwnd * self._mss
            self.cwnd += steps * self._mss

    def _start_epoch(self, now: int) -> None:
        """A stage of congestion avoidance begins (RFC 9438 §4.2, figure 2)."""
        self._epoch = now
        self._credit = self._est_credit = 0
        self._w_est = self.cwnd
        self._origin = max(self._w_max, self.cwnd)
        self._k = cube_root((self._origin - self.cwnd) * C_DENOMINATOR // (C_NUMERATOR * self._mss))

    def _w_cubic(self, t: int) -> int:
        """The curve ``t`` ns after the epoch's begin, bytes (RFC 9438 §4.2, figure 1)."""
        return self._origin + C_NUMERATOR * self._mss * (t - self._k) ** 3 // C_DENOMINATOR

    def _follow_reno(self, acked: int) -> None:
        """W_est: alpha segments a window's worth of ACKs (RFC 9438 §4.3, figure 4)."""
        self._est_credit += acked * (ALPHA[0] if self._w_est < self._cwnd_prior else ALPHA[1])
        window = (self.cwnd - self.cwnd % self._mss) * ALPHA[1]  # what a round trip acknowledges: whole segments
        if self._est_credit >= window:
            self._est_credit -= window
            self._w_est += self._mss

    # --- reduction ---------------------------------------------------------------------------------------------------

    def _reduce(self, flight: int, beta: tuple[int, int]) -> None:
        """Note W_max, lower than the window if that did not reach the last one: whoever came needs room (fast
        convergence, RFC 9438 §4.7)."""
        window = self._in_use(flight)
        kept, whole = self.beta
        self._w_max = window * (whole + kept) // (2 * whole) if window < self._w_max else window
        self._cwnd_prior = self.cwnd
        self._epoch = NO_EPOCH
        super()._reduce(flight, beta)

    def on_rto(self, flight: int, now: int, *, reduced: bool) -> None:
        """What was known of the path is not believed any more (RFC 9438 §4.8)."""
        super().on_rto(flight, now, reduced=reduced)
        self._w_max = 0
        self._epoch = NO_EPOCH

    def _remember(self) -> None:
        super()._remember()
        self._undo = (self._w_max, self._origin, self._k, self._epoch, self._w_est, self._cwnd_prior)

    def on_spurious(self) -> None:
        """Back onto the old curve, unless the window is beyond it already (RFC 9438 §4.9). Where there was none, the
        window that was doubted is a first W_max."""
        if self.cwnd < self._prior_cwnd:
            w_max, self._origin, self._k, self._epoch, self._w_est, self._cwnd_prior = self._undo
            self._w_max = w_max or self._w_max
        super().on_spurious()
