"""What losses tell BBR: how much less than the model's best is safe.

Two kinds of bound (draft-ietf-ccwg-bbr-06 §3.4.2). The *short-term* ones, of rate and volume, follow what is delivered
now whenever something is lost; they are dropped when the next probe begins, for what made them may be over. The
*long-term* one, of volume alone, is learned while probing: what was in flight when too much was lost.

The draft holds every loss for congestion, and more than 2 % in a round trip for too much. A radio link or a dirty fibre
loses more than that whatever is sent. There every probe ends at once and every round of cruising takes off a few
percent, until a small share of the bandwidth is left: at 3 % a quarter to a half. BBR version 1, which ignores loss,
keeps all of it, but several such flows with a shallow buffer keep losing a fifth of what they send. Here losses need a
witness:

- *A queue*: the last round trips were all longer than ``min_rtt`` by what HyStart++ (RFC 9406 §4.2) takes for a queue.
  Then all is as in the draft.
- *Their share*, without a queue: the last sixteen were more than 6 % of what was sent meanwhile. That is what a shallow
  buffer or a policer does to flows that are too fast. Until the next sixteen say otherwise all is as in the draft.
  What one ACK finds lost counts as one loss: an outage, or a burst on a radio link, is a single hole, however large.

The draft leaves room for it: LossThresh is a default (§2.8), signals are to be filtered (§5.5.10), and all is an
experiment (§3.8). What it costs: four flows that share a buffer of a twentieth of a BDP lose 6 %, not 2 %; from a
fifth of a BDP on there is no difference. A mark of Explicit Congestion Notification needs no witness (§3.7).
"""

from collections import deque
from typing import Final

from usertcp.tcp.cc.base import AckSample
from usertcp.tcp.cc.bbr_model import PathModel
from usertcp.tcp.cc.hystart import N_RTT_SAMPLE, rtt_threshold

INFINITE: Final = 1 << 62  # no bound
LOSS_THRESH: Final = 2  # percent of a round trip's data (§2.8)
UNQUEUED_LOSS_THRESH: Final = 6  # percent, where no queue explains the losses; not in the draft
JUDGED_TOGETHER: Final = 16  # losses, then: 3 % by chance exceed it once in a hundred times; not in the draft
FULL_LOSS_COUNT: Final = 6  # StartupFullLossCnt: separate losses in a round trip (§5.3.1.3)
BETA: Final = (7, 10)  # Beta (§2.8)
HEADROOM: Final = (15, 100)  # Headroom (§2.8)
MIN_PIPE_SEGMENTS: Final = 4  # MinPipeCwnd (§2.8)


class Bounds:
    """``bw_latest``, ``inflight_latest``  the most delivered lately: rate, and volume in a round trip (§5.5.10.3)
    ``bw_shortterm``, ``inflight_shortterm``, ``inflight_longterm``  the bounds; INFINITE: none
    ``delivered``         bytes, when last heard
    ``loss_round_start``  the ACK at hand ended a round of losses
    ``is_loss_in_round``  something was lost, or marked, in this one
    ``losses``            in how many places: what one ACK finds lost counts as one (as in Linux)
    """

    __slots__ = (
        "_congested",
        "_loss_round_delivered",
        "_lost_at",
        "_many",
        "_rtts",
        "_tally",
        "_tally_from",
        "_tally_lost",
        "_undo",
        "bw_latest",
        "bw_shortterm",
        "delivered",
        "inflight_latest",
        "inflight_longterm",
        "inflight_shortterm",
        "is_loss_in_round",
        "loss_round_start",
        "losses",
    )

    def __init__(self) -> None:
        self.bw_latest = self.inflight_latest = 0
        self.bw_shortterm = self.inflight_shortterm = self.inflight_longterm = INFINITE
        self._rtts: deque[tuple[int, int]] = deque(maxlen=N_RTT_SAMPLE)  # (when, how long) the last round trips were
        self.loss_round_start = False
        self.is_loss_in_round = False
        self.losses = 0
        self._lost_at = -1  # when the last loss was found, ns
        self._tally = self._tally_lost = self._tally_from = 0  # losses not judged yet, their bytes, delivered before
        self._many = False  # by the last judgement
        self._congested = False  # the losses of this round have a witness, or there is a mark
        self._loss_round_delivered = 0
        self.delivered = 0
        self._undo = (0, 0, 0)

    # --- what happened -----------------------------------------------------------------------------------------------

    def note_loss(self, size: int, min_rtt: int, now: int) -> bool:
        """``size`` bytes are lost; True: the first in this round (§5.5.10.2)."""
        first = not self.is_loss_in_round
        if first:
            self._begin_loss_round()
        if now != self._lost_at:
            self._lost_at = now
            self.losses += 1
            self._tally += 1
        self._tally_lost += size
        if self._tally >= JUDGED_TOGETHER:
            self._judge_share()
        self._congested = self._congested or self._many or self._queue(min_rtt)
        return first

    def _judge_share(self) -> None:
        """Have the last losses been too many for chance?"""
        lost = self._tally_lost
        sent = self.delivered - self._tally_from + lost
        self._many = lost * 100 > sent * UNQUEUED_LOSS_THRESH
        self._tally = self._tally_lost = 0
        self._tally_from = self.delivered

    def note_mark(self) -> None:
        """The network marked something Congestion Experienced (§3.7)."""
        if not self.is_loss_in_round:
            self._begin_loss_round()
        self._congested = True

    def _begin_loss_round(self) -> None:
        self.is_loss_in_round = True
        self._loss_round_delivered = self.delivered

    def update_latest(self, sample: AckSample) -> None:
        """UpdateLatestDeliverySignals (§5.5.10.3)."""
        self.delivered = sample.delivered
        self.bw_latest = max(self.bw_latest, sample.rate)
        self.inflight_latest = max(self.inflight_latest, sample.delivered - sample.prior_delivered)
        self.loss_round_start = sample.prior_delivered >= self._loss_round_delivered
        if self.loss_round_start:
            self._loss_round_delivered = sample.delivered
        if sample.rtt >= 0:
            self._rtts.append((sample.now, sample.rtt))

    def advance_latest(self, sample: AckSample) -> None:
        """AdvanceLatestDeliverySignals (§5.5.10.3)."""
        if self.loss_round_start:
            self.bw_latest = sample.rate
            self.inflight_latest = sample.delivered - sample.prior_delivered

    def reset_signals(self) -> None:
        """ResetCongestionSignals (§5.5.10.3)."""
        self._end_loss_round()
        self.bw_latest = self.inflight_latest = 0

    def _end_loss_round(self) -> None:
        self.is_loss_in_round = self._congested = False
        self.losses = 0

    # --- is it congestion? -------------------------------------------------------------------------------------------

    def _queue(self, min_rtt: int) -> bool:
        """Whether the last round trips, eight at most and all of the last ``min_rtt``, were all too long for an empty
        queue."""
        if not self._rtts:
            return False
        since = self._rtts[-1][0] - min_rtt
        return min(rtt for when, rtt in self._rtts if when >= since) > min_rtt + rtt_threshold(min_rtt)

    def too_much(self, lost: int, inflight: int, min_rtt: int) -> bool:
        """Whether ``lost`` of ``inflight`` bytes are more than queue pressure allows (IsInflightTooHigh, §5.5.10.2)."""
        return lost * 100 > inflight * LOSS_THRESH and (self._congested or self._queue(min_rtt))

    def inflight_at_loss(self, size: int, tx_in_flight: int, lost: int, min_rtt: int) -> int:
        """How much was in flight when the losses became too much, perhaps in the middle of this record (§5.5.10.2)."""
        before = tx_in_flight - size
        allowed = LOSS_THRESH if self._queue(min_rtt) else UNQUEUED_LOSS_THRESH
        return before + min(size, max(0, allowed * before - 100 * (lost - size)) // (100 - allowed))

    def end_round(self, model: PathModel, cwnd: int, *, probing: bool) -> None:
        """Once a round of losses: unless ``probing`` for more, follow what is delivered
        (AdaptLowerBoundsFromCongestion, §5.5.10.3)."""
        if not self.loss_round_start or not self.is_loss_in_round:
            return
        if self._congested and not probing:
            if self.bw_shortterm == INFINITE:
                self.bw_shortterm = model.max_bw
            if self.inflight_shortterm == INFINITE:
                self.inflight_shortterm = cwnd
            self.bw_shortterm = max(self.bw_latest, self.bw_shortterm * BETA[0] // BETA[1])
            self.inflight_shortterm = max(self.inflight_latest, self.inflight_shortterm * BETA[0] // BETA[1])
        self._end_loss_round()

    # --- bounds ------------------------------------------------------------------------------------------------------

    def reset_short_term(self) -> None:
        """ResetShortTermModel (§5.5.10.3)."""
        self.bw_shortterm = self.inflight_shortterm = INFINITE

    def with_headroom(self, mss: int) -> int:
        """The long-term bound with some room left for others (InflightWithHeadroom, §5.3.3.9), bytes."""
        if self.inflight_longterm == INFINITE:
            return INFINITE
        headroom = max(mss, self.inflight_longterm * HEADROOM[0] // HEADROOM[1])
        return max(self.inflight_longterm - headroom, MIN_PIPE_SEGMENTS * mss)

    # --- undo --------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """SaveStateUponLoss (§5.5.11.1)."""
        self._undo = (self.bw_shortterm, self.inflight_shortterm, self.inflight_longterm)

    def restore(self) -> None:
        """The losses were none (§5.5.11.2)."""
        self._end_loss_round()
        bw_shortterm, inflight_shortterm, inflight_longterm = self._undo
        self.bw_shortterm = max(self.bw_shortterm, bw_shortterm)
        self.inflight_shortterm = max(self.inflight_shortterm, inflight_shortterm)
        self.inflight_longterm = max(self.inflight_longterm, inflight_longterm)
