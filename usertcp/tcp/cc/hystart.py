"""HyStart++: leaving slow start before it overshoots (RFC 9406).

Slow start doubles the window until something is lost, and by then up to half of it is too much. But before the
bottleneck's queue is full it fills, and round trips grow longer. So the shortest of the latest round trips is compared
with the last round's::

      slow start ------- it grew by RttThresh ------> CSS ----- five rounds ----> congestion avoidance
          ^                                            |
          '----- shorter than when CSS began ----------'

CSS, *conservative slow start*, grows a quarter as fast: if the delay was only jitter it shows within five rounds, and
slow start goes on; otherwise the window is now about what the path holds.

Two things are stricter than the RFC, because a window that doubles without pacing goes past a bottleneck's queue within
a single round: the shortest trip that counts is that of the last eight samples, not of the round, whose first ones left
before there was a queue; and CSS is over as soon as the trip has grown by another RttThresh: then it was no jitter.

Two notes on the constants. ``L``, the limit of growth per ACK (RFC 9406 §4.2: 8 segments unless paced), is infinite:
bursts here are super-segments of up to 44 segments, which a receiver with offload answers with one ACK; with L = 8 slow
start would be slower than congestion avoidance. And for the same reason a round may bring fewer than the eight samples
that the RFC wants before it believes them. Such a round is judged when it is over, on the samples there are, if it
acknowledged as many segments as eight ordinary (delayed) ACKs do.

The RFC has no least window for this (earlier drafts had 16 segments); rounds too small to judge are of that size.
"""

from typing import Final

from usertcp.tcp.cc.base import AckSample
from usertcp.units import MS, NEVER

MIN_RTT_THRESH: Final = 4 * MS  # RFC 9406 §4.3
MAX_RTT_THRESH: Final = 16 * MS  # RFC 9406 §4.3
MIN_RTT_DIVISOR: Final = 8  # RFC 9406 §4.3
N_RTT_SAMPLE: Final = 8  # RFC 9406 §4.3
CSS_GROWTH_DIVISOR: Final = 4  # RFC 9406 §4.3
CSS_ROUNDS: Final = 5  # RFC 9406 §4.3
N_SEGMENTS: Final = 2 * N_RTT_SAMPLE  # that many ordinary ACKs acknowledge two segments each (RFC 5681 §4.2)


def rtt_threshold(rtt: int) -> int:
    """By how much a round trip of ``rtt`` ns must grow before a queue is the explanation, ns (RFC 9406 §4.2)."""
    return max(MIN_RTT_THRESH, min(rtt // MIN_RTT_DIVISOR, MAX_RTT_THRESH))


class HyStart:
    """One connection's first slow start.

    ``over``        the five rounds of CSS have passed: time for congestion avoidance
    ``_baseline``   the round trip at which CSS began, ns; NEVER: in slow start
    ``_rounds``     of CSS so far
    ``_round_end``  what must have been delivered when a segment is sent for its ACK to end the round, bytes
    ``_last_min``, ``_round_min``  shortest round trip of the last and of this round, ns; NEVER: none
    ``_samples``, ``_acked``       of this round: RTT samples, bytes acknowledged; ``_recent``: the last eight samples
    """

    __slots__ = (
        "_acked",
        "_baseline",
        "_last_min",
        "_recent",
        "_round_end",
        "_round_min",
        "_rounds",
        "_samples",
        "over",
    )

    def __init__(self) -> None:
        self.over = False
        self._baseline = NEVER
        self._rounds = 0
        self._round_end = 0
        self._last_min = self._round_min = NEVER
        self._samples = 0
        self._recent = [0] * N_RTT_SAMPLE
        self._acked = 0

    @property
    def conservative(self) -> bool:
        """Whether CSS is under way."""
        return self._baseline != NEVER

    def grow(self, sample: AckSample, acked: int, mss: int) -> int:
        """By how much the window may grow for ``acked`` bytes (RFC 9406 §4.2); ``over`` may become true."""
        if sample.prior_delivered >= self._round_end:
            if self._samples < N_RTT_SAMPLE and self._acked >= N_SEGMENTS * mss:
                self._judge()
            self._start_round(sample.delivered)
        self._acked += acked
        if sample.rtt >= 0:
            self._round_min = min(self._round_min, sample.rtt)
            self._recent[self._samples % N_RTT_SAMPLE] = sample.rtt
            self._samples += 1
            if self._samples >= N_RTT_SAMPLE:
                self._judge()
        return acked // CSS_GROWTH_DIVISOR if self.conservative else acked

    def _start_round(self, delivered: int) -> None:
        """The round in which CSS begins counts, even if it began in the middle (RFC 9406 §4.2)."""
        self._round_end = delivered
        self._last_min = self._round_min
        self._round_min = NEVER
        self._samples = 0
        self._acked = 0
        if self.conservative:
            self._rounds += 1
            self.over = self._rounds >= CSS_ROUNDS

    def _judge(self) -> None:
        """Compare the latest shortest trip with the last round's, or, in CSS, with the one at which that began."""
        shortest = min(self._recent) if self._samples >= N_RTT_SAMPLE else self._round_min
        if self.conservative:
            if shortest < self._baseline:  # it was no queue
                self._baseline = NEVER
                self._rounds = 0
            elif shortest >= self._baseline + rtt_threshold(self._baseline):  # it was, and it grows
                self.over = True
        elif (
            shortest != NEVER and self._last_min != NEVER and shortest >= self._last_min + rtt_threshold(self._last_min)
        ):
            self._baseline = shortest
