"""What BBR believes of the path: how fast it delivers, how long it is, and how it bunches ACKs.

Two numbers describe a path for BBR (draft-ietf-ccwg-bbr-06 §3.4): the bottleneck's bandwidth, the *largest* rate at
which it delivered lately, and its length, the *shortest* round trip lately. They cannot be measured at once: the first
needs a full pipe, the second an empty queue. Their product, the BDP, is what must be in flight to keep the bottleneck
busy.

Everything here is measurement; what the losses say is in ``bbr_bounds``, what to do about it in ``bbr``. Names are the
draft's; rates are bytes a second, times ns, volumes bytes.
"""

from typing import Final

from usertcp.tcp.cc.base import AckSample
from usertcp.units import NEVER, SEC

MIN_RTT_FILTER_LEN: Final = 10 * SEC  # MinRTTFilterLen (§2.16.1)
PROBE_RTT_INTERVAL: Final = 5 * SEC  # ProbeRTTInterval (§2.16.2)
EXTRA_ACKED_FILTER_LEN: Final = 10  # rounds; ExtraAckedFilterLen (§2.12)
FULL_BW_ROUNDS: Final = 3  # rounds without growth until the pipe is held for full (§5.3.1.2)
FULL_BW_GROWTH: Final = (5, 4)  # less than that is no growth (§5.3.1.2)


class WindowedMax:
    """The largest value of the last ``window`` rounds. Kept: the values that may become it, latest last."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: list[tuple[int, int]] = []  # (round, value): rounds rise, values fall

    def update(self, value: int, now: int, window: int) -> int:
        """Take in ``value``, of round ``now``; returns the largest."""
        kept = self._kept
        while kept and kept[-1][1] <= value:
            kept.pop()
        kept.append((now, value))
        while kept[0][0] <= now - window:
            kept.pop(0)
        return kept[0][1]


class PathModel:
    """``round_count``, ``round_start``  packet-timed round trips; whether the ACK at hand began one (§5.5.1)
    ``max_bw``, ``bw``      largest recent delivery rate; what of it the losses leave
    ``min_rtt``             shortest recent round trip; NEVER: none yet
    ``probe_rtt_expired``   it was not seen for so long that ProbeRTT is due
    ``extra_acked``         how much more than expected ACKs deliver at once (§5.5.9)
    ``full_bw_now``, ``full_bw_reached``  the rate grew no more since the estimator was reset, or at any time (§5.3.1.2)
    """

    __slots__ = (
        "_cycle_bw",
        "_extra_acked_delivered",
        "_extra_acked_filter",
        "_extra_acked_start",
        "_full_bw",
        "_full_bw_count",
        "_min_rtt_stamp",
        "_next_round_delivered",
        "_previous_cycle_bw",
        "_probe_rtt_min_delay",
        "bw",
        "extra_acked",
        "full_bw_now",
        "full_bw_reached",
        "max_bw",
        "min_rtt",
        "probe_rtt_expired",
        "probe_rtt_min_stamp",
        "round_count",
        "round_start",
    )

    def __init__(self) -> None:
        self.round_count = 0
        self.round_start = False
        self._next_round_delivered = 0
        self.max_bw = self.bw = 0
        self._cycle_bw = self._previous_cycle_bw = 0
        self.min_rtt = self._probe_rtt_min_delay = NEVER
        self._min_rtt_stamp = self.probe_rtt_min_stamp = 0
        self.probe_rtt_expired = False
        self.extra_acked = 0
        self._extra_acked_filter = WindowedMax()
        self._extra_acked_start = -1
        self._extra_acked_delivered = 0
        self.full_bw_now = self.full_bw_reached = False
        self._full_bw = 0
        self._full_bw_count = 0

    def bdp(self, bw: int) -> int:
        """What must be in flight to be delivered at ``bw``, bytes; needs a ``min_rtt``."""
        return bw * self.min_rtt // SEC

    # --- rounds ------------------------------------------------------------------------------------------------------

    def update_round(self, sample: AckSample) -> None:
        """A round ends when something sent after its begin is delivered (§5.5.1)."""
        self.round_start = sample.prior_delivered >= self._next_round_delivered
        if self.round_start:
            self.start_round(sample.delivered)
            self.round_count += 1

    def start_round(self, delivered: int) -> None:
        """Begin a round now."""
        self._next_round_delivered = delivered

    # --- bandwidth ---------------------------------------------------------------------------------------------------

    def update_max_bw(self, sample: AckSample, app_limited: bool) -> None:
        """The largest rate in this and the last cycle of probing; one that the application limited counts only if it
        is larger (§5.5.5)."""
        rate = sample.rate
        if rate and (rate >= self.max_bw or not app_limited):
            self._cycle_bw = max(self._cycle_bw, rate)
            self.max_bw = max(self._cycle_bw, self._previous_cycle_bw)

    def advance_max_bw_filter(self) -> None:
        """A cycle of probing is over (§5.5.6). A cycle without any sample does not count."""
        if self._cycle_bw:
            self._previous_cycle_bw = self._cycle_bw
            self._cycle_bw = 0
            self.max_bw = self._previous_cycle_bw

    def reset_full_bw(self, baseline: int) -> None:
        """Look anew for the rate at which the pipe is full (§5.3.1.2); ``baseline``: what it delivers now."""
        self._full_bw = baseline
        self._full_bw_count = 0
        self.full_bw_now = False

    def check_full_bw_reached(self, sample: AckSample, app_limited: bool) -> None:
        """Three rounds of trying to be faster with less than a quarter gained: the pipe is full (§5.3.1.2)."""
        if self.full_bw_now or not self.round_start or app_limited or not sample.rate:
            return
        if sample.rate * FULL_BW_GROWTH[1] >= self._full_bw * FULL_BW_GROWTH[0]:
            self.reset_full_bw(sample.rate)
            return
        self._full_bw_count += 1
        self.full_bw_now = self._full_bw_count >= FULL_BW_ROUNDS
        self.full_bw_reached |= self.full_bw_now

    # --- round-trip time ---------------------------------------------------------------------------------------------

    def update_min_rtt(self, sample: AckSample) -> None:
        """Two filters in a row (§5.3.4.3): the shortest since ProbeRTT was last due, and that over ten seconds."""
        now, rtt = sample.now, sample.rtt
        if self._probe_rtt_min_delay == NEVER:
            self.probe_rtt_min_stamp = self._min_rtt_stamp = now
        self.probe_rtt_expired = now > self.probe_rtt_min_stamp + PROBE_RTT_INTERVAL
        if rtt >= 0 and (rtt < self._probe_rtt_min_delay or self.probe_rtt_expired):
            self._probe_rtt_min_delay = max(rtt, 1)
            self.probe_rtt_min_stamp = now
        if self._probe_rtt_min_delay < self.min_rtt or now > self._min_rtt_stamp + MIN_RTT_FILTER_LEN:
            self.min_rtt = self._probe_rtt_min_delay
            self._min_rtt_stamp = self.probe_rtt_min_stamp

    # --- aggregation -------------------------------------------------------------------------------------------------

    def restart_aggregation(self, now: int) -> None:
        """Expect nothing for the time before ``now``: nothing was in flight (§5.4.1)."""
        self._extra_acked_start = now

    def update_aggregation(self, sample: AckSample, cwnd: int) -> None:
        """By how much the data delivered in one bunch exceeds what ``bw`` explains (§5.5.9)."""
        now = sample.now
        if self._extra_acked_start < 0:
            self._extra_acked_start = now
        expected = self.bw * (now - self._extra_acked_start) // SEC
        if self._extra_acked_delivered <= expected:
            self._extra_acked_delivered = 0
            self._extra_acked_start = now
            expected = 0
        self._extra_acked_delivered += sample.acked
        self.extra_acked = self._extra_acked_filter.update(
            min(self._extra_acked_delivered - expected, cwnd),
            self.round_count,
            EXTRA_ACKED_FILTER_LEN if self.full_bw_reached else 1,
        )
