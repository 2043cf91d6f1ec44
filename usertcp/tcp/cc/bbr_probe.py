"""BBR's probing for bandwidth: when, how far, and what the ACKs at hand have to do with it.

A flow that never asks for more does not notice when there is more. But asking costs a queue, and perhaps others'
packets, so it is done as seldom as people bear (every 2 to 3 s), or as often as Reno, had it this window, would (every
so many round trips as there are segments in flight, 63 at most), whichever comes first (draft-ietf-ccwg-bbr-06
§5.3.3.8).

How far a probe goes is bounded by ``inflight_longterm``, once losses have set it. While a probe presses against it
without losing too much, the bound moves up, by 1, 2, 4, 8, … segments a round trip (§5.3.3.5). After one that lost too
much the next only touches the bound and lets go (precautionary, §5.3.3.6); if that was safe, a full one follows at
once.

This file keeps the books; the states are ``bbr``'s.
"""

from enum import Enum
from typing import Final

from usertcp.tcp.cc.bbr_bounds import INFINITE, Bounds
from usertcp.units import SEC

PROBE_WAIT: Final = 2 * SEC  # the least time between probes (§5.3.3.8)
PROBE_WAIT_SPREAD: Final = 1 * SEC  # and how much more, by chance
MAX_RENO_ROUNDS: Final = 63  # round trips after which to probe at the latest (§5.3.3.8)
MAX_UP_ROUNDS: Final = 30  # doublings of the slope (§5.3.3.9)


class AckPhase(Enum):
    """What the ACKs at hand tell (BBR.ack_phase, §2.14)."""

    INIT = "nothing about a probe"
    REFILLING = "of data that fills the pipe"
    STARTING = "of data sent before the probe"
    FEEDBACK = "of the probe's data"
    STOPPING = "of what the probe left in flight"


def spread(seed: int) -> int:
    """64 bits that look like chance (an integer hash: each bit of ``seed`` changes half of them)."""
    seed = ((seed ^ (seed >> 30)) * 0xBF58_476D_1CE4_E5B9) & 0xFFFF_FFFF_FFFF_FFFF
    seed = ((seed ^ (seed >> 27)) * 0x94D0_49BB_1331_11EB) & 0xFFFF_FFFF_FFFF_FFFF
    return seed ^ (seed >> 31)


class Probe:
    """``ack_phase``      see there
    ``sampling``          ACKs of probing data are due, and losses among it were not yet responded to
    ``too_high``          the last probe lost too much (prev_probe_too_high)
    ``precautionary``     the last probe stopped when it touched the bound (prev_probe_precautionary)
    ``rounds``            round trips since the last probe (rounds_since_probe_up)
    ``cycle_stamp``       when this cycle began, ns
    ``_wait``             how long after that to probe at the latest, ns (bw_probe_wait)
    ``_up_rounds``        rounds in which the bound was raised (bw_probe_up_rounds)
    ``_acked``            bytes acknowledged towards the next step (bw_probe_up_acked) ...
    ``_acked_per_step``   ... which takes so many; INFINITE: the bound is not rising (probe_up_acked_per_inc)
    """

    __slots__ = (
        "_acked",
        "_acked_per_step",
        "_up_rounds",
        "_wait",
        "ack_phase",
        "cycle_stamp",
        "precautionary",
        "rounds",
        "sampling",
        "too_high",
    )

    def __init__(self) -> None:
        self.ack_phase = AckPhase.INIT
        self.sampling = False
        self.too_high = False
        self.precautionary = False
        self.rounds = 0
        self.cycle_stamp = 0
        self._wait = 0
        self._up_rounds = 0
        self._acked = 0
        self._acked_per_step = INFINITE

    def stop(self, delivered: int, now: int) -> None:
        """The cycle begins anew; choose when to probe next (StartProbeBW_DOWN and PickProbeWait, §5.3.3.8).

        The draft draws lots. The core has no chance of its own; a hash of where the connection stands does as well:
        flows that share a bottleneck never stand at the same place at the same time.
        """
        lot = spread(now ^ delivered << 20)
        self.rounds = lot & 1
        self._wait = PROBE_WAIT + (lot >> 1) % PROBE_WAIT_SPREAD
        self.cycle_stamp = now
        self._acked_per_step = INFINITE
        self.ack_phase = AckPhase.STOPPING

    def is_due(self, segments_in_flight: int, now: int) -> bool:
        """IsTimeToProbeBW (§5.3.3.8)."""
        return now > self.cycle_stamp + self._wait or self.rounds >= min(segments_in_flight, MAX_RENO_ROUNDS)

    def refill(self) -> None:
        """StartProbeBW_REFILL (§5.3.3.9)."""
        self._up_rounds = 0
        self._acked = 0
        self.precautionary = False
        self.ack_phase = AckPhase.REFILLING

    def start(self, cwnd: int, mss: int) -> None:
        """StartProbeBW_UP (§5.3.3.9)."""
        self.sampling = True
        self.ack_phase = AckPhase.STARTING
        self._raise_slope(cwnd, mss)

    def _raise_slope(self, cwnd: int, mss: int) -> None:
        """Twice as many steps in the next round trip as in this (RaiseInflightLongtermSlope, §5.3.3.9)."""
        growth = 1 << self._up_rounds
        self._up_rounds = min(self._up_rounds + 1, MAX_UP_ROUNDS)
        self._acked_per_step = max(cwnd // growth, mss)

    def raise_bound(self, bounds: Bounds, acked: int, cwnd: int, mss: int, *, round_start: bool) -> None:
        """The bound was reached and nothing happened: move it up (ProbeInflightLongtermUpward, §5.3.3.9)."""
        self._acked += acked
        steps = self._acked // self._acked_per_step
        self._acked -= steps * self._acked_per_step
        bounds.inflight_longterm += steps * mss
        if round_start:
            self._raise_slope(cwnd, mss)
