"""How long an acknowledgment takes, and how long to wait for one: RFC 6298.

A smoothed round-trip time and its mean deviation are moved a little by each sample (Jacobson), and the retransmission
time-out is the one plus four times the other::

      RTTVAR <- 3/4 RTTVAR + 1/4 |SRTT - R|        SRTT <- 7/8 SRTT + 1/8 R        RTO <- SRTT + max(M, 4 RTTVAR)

The RFC's least deviation G is the clock's step, and its least RTO 1 s; here, as in Linux, the one number M of 200 ms
serves for both: a peer may hold an ACK back for so long, however steady the path is.

Each time-out doubles the RTO, and only a new sample, or progress, takes that back. Which measurements are samples
(Karn: none of what was sent twice, unless a timestamp tells which) is decided by who calls; nothing here has a timer.
"""

from typing import Final

from usertcp.units import MS, SEC

TS_TICK: Final = 1 * MS  # our timestamp clock, and so what an echo is known to (RFC 7323 §5.4: 1 ms to 1 s)
SYN_LOSS_RTO: Final = 3 * SEC  # the RTO when data begins after a SYN was lost (RFC 6298 §5.7)


class RttEstimator:
    """Times in ns: ``srtt`` and ``min_rtt`` (0: none yet), ``rttvar``, ``rto``, ``least`` at least; ``backoffs``."""

    __slots__ = ("_max", "_min", "_start", "backoffs", "least", "min_rtt", "rto", "rttvar", "srtt")

    def __init__(self, initial_rto: int, min_rto: int, max_rto: int) -> None:
        self._min = min_rto
        self._max = max_rto
        self._start = initial_rto
        self.least = min(initial_rto, min_rto, max_rto)
        self.srtt = self.rttvar = self.min_rtt = 0
        self.backoffs = 0
        self.rto = initial_rto

    def sample(self, rtt: int, smallest: int) -> None:
        """Take in a measurement of ``rtt`` ns (RFC 6298 §2.2, §2.3); it ends any backoff. ``smallest``: the same
        without what the peer held back."""
        if smallest <= 0 or rtt <= 0:
            rtt, smallest = max(rtt, 1), max(smallest, 1)
        srtt, var = self.srtt, self.rttvar
        if not srtt:
            self.srtt, self.rttvar, self.min_rtt = rtt, rtt >> 1, smallest
            self.reset_backoff()
            return
        error = rtt - srtt
        self.srtt = srtt = srtt + (error >> 3)
        self.rttvar = var = var + ((error if error >= 0 else -error) - var >> 2)
        if smallest < self.min_rtt:
            self.min_rtt = smallest
        var <<= 2
        rto = srtt + (var if var > self._min else self._min)
        self.rto = rto if rto < self._max else self._max
        self.backoffs = 0

    def backoff(self) -> None:
        """Double the RTO, up to the maximum: a time-out happened (RFC 6298 §5.5)."""
        self.backoffs += 1
        self.rto = min(self.rto * 2, self._max)

    def reset_backoff(self) -> None:
        """Compute the RTO from the estimate again, as if no time-out had happened: new data was acknowledged."""
        self.backoffs = 0
        rto = self.srtt + max(self._min, 4 * self.rttvar) if self.srtt else self._start
        self.rto = min(rto, self._max)

    def syn_was_lost(self) -> None:
        """The handshake needed a retransmission and gave no sample: start data with at least 3 s (RFC 6298 §5.7)."""
        self._start = max(self._start, SYN_LOSS_RTO)
        self.reset_backoff()
