"""BBR version 3: send as fast as the bottleneck delivers, with as much in flight as the path holds.

Loss-based algorithms find a path's capacity by filling its queue until something is dropped. BBR
(draft-ietf-ccwg-bbr-06) measures it: a model of the path (``bbr_model``), bounds that losses put on it
(``bbr_bounds``), and this state machine, which spends most of its time at the model's operating point, and a little on
experiments that keep the model true (``bbr_probe``)::

      Startup ---> Drain ---> ProbeBW: DOWN ---> CRUISE ---> REFILL ---> UP --.     ProbeRTT: from anywhere,
      x 2.77       x 0.5              x 0.9      x 1         x 1         x 1.25      every 5 s, unless the queue
      until the    until the  .-----> until      2 to 3 s,   for one     until full, was empty anyway: half a
      pipe is      queue is   |       drained    or as Reno  round       or losses   BDP for 200 ms
      full         gone       '-----------------------------------------------'

It paces at ``bw`` times the state's gain, and bounds what is in flight by ``cwnd``, mostly twice the BDP. It decides on
both in recovery too (``keeps_window``). How it judges losses, and where that leaves the draft, is told in
``bbr_bounds``.

What a burst may be is the sender's decision; the room for bursts is reckoned by the draft's formula for them (§5.6.3).
Whether the peer takes SACK is not known here: without it losses are judged by their share as well. Section numbers are
the draft's.
"""

from enum import Enum
from typing import ClassVar, Final

from usertcp.native import mypyc_attr
from usertcp.tcp.cc.base import AckSample, CongestionControl, initial_window
from usertcp.tcp.cc.bbr_bounds import BETA, FULL_LOSS_COUNT, INFINITE, MIN_PIPE_SEGMENTS, Bounds
from usertcp.tcp.cc.bbr_model import PathModel
from usertcp.tcp.cc.bbr_probe import AckPhase, Probe
from usertcp.units import KIB, MS, NEVER, SEC


class BbrState(Enum):
    """The states, each with its gains of pacing and window, percent (§5.6.1)."""

    STARTUP = ("Startup", 277, 200)
    DRAIN = ("Drain", 50, 200)
    PROBE_BW_DOWN = ("ProbeBW_DOWN", 90, 200)
    PROBE_BW_CRUISE = ("ProbeBW_CRUISE", 100, 200)
    PROBE_BW_REFILL = ("ProbeBW_REFILL", 100, 200)
    PROBE_BW_UP = ("ProbeBW_UP", 125, 225)
    PROBE_RTT = ("ProbeRTT", 100, 50)

    @property
    def pacing_gain(self) -> int:
        return self.value[1]

    @property
    def cwnd_gain(self) -> int:
        return self.value[2]


STARTUP: Final = BbrState.STARTUP
DRAIN: Final = BbrState.DRAIN
DOWN: Final = BbrState.PROBE_BW_DOWN
CRUISE: Final = BbrState.PROBE_BW_CRUISE
REFILL: Final = BbrState.PROBE_BW_REFILL
UP: Final = BbrState.PROBE_BW_UP
PROBE_RTT: Final = BbrState.PROBE_RTT

PACING_MARGIN: Final = 99  # percent of bw that is sent, so that queues drain (PacingMarginPercent, §2.5)
PROBE_RTT_DURATION: Final = 200 * MS  # ProbeRTTDuration (§2.16.2)
DRAIN_ROUNDS: Final = 3  # at most in Drain (§5.3.2)
NO_RTT: Final = 1 * MS  # the round trip assumed before there is one (§5.6.2)
QUANTUM_TIME: Final = 1 * MS  # a burst is what is sent in that time, (§5.6.3)
MAX_QUANTUM: Final = 64 * KIB  # but not more
OFFLOAD_QUANTA: Final = 3  # bursts that offload may hold on to (§5.5.8.1)


@mypyc_attr(allow_interpreted_subclasses=True)
class Bbr(CongestionControl):
    """``model``, ``bounds``, ``probe``, ``state``: the parts

    ``_pacing_rate``   bytes a second; 0: nothing to reckon it from yet
    ``_limited``       the last rate was the application's, not the path's
    ``_drain_end``     the round after which Drain ends anyway
    ``_probe_rtt_done_stamp``, ``_probe_rtt_round_done``  when ProbeRTT may end (0: inflight is not down yet)
    ``_probe_rtt_sent``  what was sent when this much was delivered, from and to, tells nothing of the bandwidth
    ``_idle_restart``  nothing was delivered since a start from idleness
    ``_full``, ``_was_full``  the window was full at some time in this round trip, in the last
    ``_in_recovery``   between ``on_congestion`` and its end
    ``_prior_cwnd``    the last window that neither recovery nor ProbeRTT made small, bytes
    ``_undo_state``    left because of losses: the state to go back to if they were none
    ``_saved_at``      when the state was saved for that, ns
    ``_mended_at``     a time-out is over when so many bytes are delivered; INFINITE: there is none
    """

    __slots__ = (
        "_drain_end",
        "_full",
        "_idle_restart",
        "_in_recovery",
        "_limited",
        "_mended_at",
        "_pacing_rate",
        "_prior_cwnd",
        "_probe_rtt_done_stamp",
        "_probe_rtt_round_done",
        "_probe_rtt_sent",
        "_saved_at",
        "_undo_state",
        "_was_full",
        "bounds",
        "model",
        "probe",
        "state",
    )

    name: ClassVar[str] = "bbr"
    paced: ClassVar[bool] = True
    keeps_window: ClassVar[bool] = True

    def __init__(self, mss: int) -> None:
        super().__init__(mss)
        self.model = PathModel()
        self.bounds = Bounds()
        self.probe = Probe()
        self.state = STARTUP
        self._pacing_rate = 0
        self._limited = True
        self._drain_end = 0
        self._probe_rtt_done_stamp = 0
        self._probe_rtt_round_done = False
        self._probe_rtt_sent = (0, -1)
        self._idle_restart = False
        self._full = self._was_full = False
        self._in_recovery = False
        self._prior_cwnd = 0
        self._undo_state: BbrState | None = None
        self._saved_at = -1
        self._mended_at = INFINITE

    # --- events (§5.2) -----------------------------------------------------------------------------------------------

    def on_ack(self, sample: AckSample) -> None:
        """UpdateOnACK (§5.2.3)."""
        self._in_recovery = sample.in_recovery
        self._update_model_and_state(sample)
        if self._mended_at <= sample.delivered:
            self._mended_at = INFINITE
            self._restore_cwnd()
        if not self._pacing_rate and sample.srtt:
            self._pacing_rate = self._initial_rate(sample.srtt)
        self._set_pacing_rate(self.state.pacing_gain)
        self._set_cwnd(sample)

    def on_send(self, now: int, *, app_limited: bool, flight: int) -> None:
        """HandleRestartFromIdle (§5.4.1)."""
        if flight or not app_limited:
            return
        self._idle_restart = True
        self.model.restart_aggregation(now)
        if self.state is PROBE_RTT:
            self._check_probe_rtt_done(now)
        elif self.state not in (STARTUP, DRAIN):
            self._set_pacing_rate(100)

    def on_idle(self, idle: int, rto: int, now: int) -> None:
        """The model does not age in silence: go on, paced at ``bw`` (§5.4)."""

    def on_lost(self, size: int, tx_in_flight: int, lost_since: int, app_limited: bool, now: int) -> None:
        """HandleLostPacket (§5.5.10.2)."""
        bounds = self.bounds
        min_rtt = self.model.min_rtt
        if bounds.note_loss(size, min_rtt, now) and not self._in_recovery:
            self._save_state(now)
        if self.probe.sampling and bounds.too_much(lost_since, tx_in_flight, min_rtt):
            inflight = bounds.inflight_at_loss(size, tx_in_flight, lost_since, min_rtt)
            self._handle_inflight_too_high(inflight, app_limited, now)

    def on_congestion(self, flight: int, now: int, *, ecn: bool = False) -> None:
        """A recovery begins (§5.6.4.4). The draft leaves open what a mark does, but not that it does something (§3.7):
        it counts as too much loss, unless the application is slower than the path: then nothing was probed."""
        if not ecn:
            self._save_state(now)
            self._in_recovery = True
            return
        self.bounds.note_mark()
        if self.state is STARTUP:
            if not self._limited:
                self._leave_startup()
        elif self.probe.sampling:
            self._handle_inflight_too_high(flight, False, now)

    def on_rto(self, flight: int, now: int, *, reduced: bool) -> None:
        """One segment, and from there back by what is acknowledged (OnEnterRTO, §5.6.4.4), until as much was delivered
        as is now to be sent again: then nothing is left to mend."""
        if not reduced:
            self._save_state(now)
        self._mended_at = self.bounds.delivered + flight
        self.cwnd = self._mss

    def on_recovered(self, now: int) -> None:
        """Back to the window before; the model bounds it with the next ACK (§5.6.4.4)."""
        self._in_recovery = False
        self._restore_cwnd()

    def on_spurious(self) -> None:
        """HandleSpuriousLossDetection (§5.5.11.2)."""
        self._in_recovery = False
        self._mended_at = INFINITE
        self._restore_cwnd()
        self.model.reset_full_bw(0)
        self.bounds.restore()
        undo, self._undo_state = self._undo_state, None
        if undo is STARTUP and self.state is not STARTUP:
            self.model.full_bw_reached = False
            if self.state is not PROBE_RTT:
                self.state = STARTUP
        elif undo is UP and self.state not in (UP, PROBE_RTT):
            self._start_refill()

    def _save_state(self, now: int) -> None:
        """SaveStateUponLoss (§5.5.11.1): once, with the first sign that a recovery begins (a loss comes before it)."""
        if self._saved_at != now:
            self._saved_at = now
            self._save_cwnd()
            self._undo_state = None
            self.bounds.save()

    def _save_cwnd(self) -> None:
        if self._in_recovery or self.state is PROBE_RTT:
            self._prior_cwnd = max(self._prior_cwnd, self.cwnd)
        else:
            self._prior_cwnd = self.cwnd

    def _restore_cwnd(self) -> None:
        self.cwnd = max(self.cwnd, self._prior_cwnd)

    # --- the model, and what follows from it (§5.2.3) ----------------------------------------------------------------

    def _update_model_and_state(self, sample: AckSample) -> None:
        """UpdateModelAndState, in the draft's order; that losses end Startup is checked before the books of the round
        they were in are closed."""
        model, bounds = self.model, self.bounds
        sent_from, sent_to = self._probe_rtt_sent
        limited = self._limited = sample.app_limited or sent_from <= sample.prior_delivered <= sent_to
        bounds.update_latest(sample)
        self._update_round(sample)
        model.update_max_bw(sample, limited)
        overflown = self.state is STARTUP and self._startup_lost_much(sample)
        bounds.end_round(model, self.cwnd, probing=self.state in (STARTUP, REFILL, UP))
        model.update_aggregation(sample, self.cwnd)
        model.check_full_bw_reached(sample, limited)
        if overflown:
            self._undo_state = STARTUP
            self._leave_startup()
        elif self.state is STARTUP and model.full_bw_reached:
            self._enter_drain()
        if self.state is DRAIN:
            self._check_drain_done(sample)
        if model.full_bw_reached:
            self._update_probe_bw_cycle_phase(sample, limited)
        model.update_min_rtt(sample)
        self._check_probe_rtt(sample)
        bounds.advance_latest(sample)
        model.bw = min(model.max_bw, bounds.bw_shortterm)

    def _update_round(self, sample: AckSample) -> None:
        """Rounds, and whether the window was full in the last one (C.is_cwnd_limited, §2.2)."""
        self.model.update_round(sample)
        if self.model.round_start:
            self.probe.rounds += 1
            self._was_full = self._full
            self._full = False
        if sample.flight + self._mss > self.cwnd:
            self._full = True

    @property
    def _at_longterm_bound(self) -> bool:
        """Whether it is ``inflight_longterm`` that keeps more from being in flight."""
        return (self._full or self._was_full) and self.cwnd >= self.bounds.inflight_longterm

    # --- Startup and Drain (§5.3.1, §5.3.2) --------------------------------------------------------------------------

    def _startup_lost_much(self, sample: AckSample) -> bool:
        """CheckStartupHighLoss: a whole round of recovery, and much lost in many places (§5.3.1.3)."""
        return (
            self.bounds.loss_round_start
            and self.bounds.losses >= FULL_LOSS_COUNT
            and sample.in_recovery
            and self.bounds.too_much(sample.lost_since, sample.tx_in_flight, self.model.min_rtt)
        )

    def _leave_startup(self) -> None:
        """What is in flight is too much; what was delivered of it in a round trip is not (§5.3.1.3)."""
        model, bounds = self.model, self.bounds
        model.full_bw_reached = True
        bounds.inflight_longterm = max(self._bdp_multiple(100, model.bw), bounds.inflight_latest)
        self._enter_drain()

    def _enter_drain(self) -> None:
        self.state = DRAIN
        self._drain_end = self.model.round_count + DRAIN_ROUNDS

    def _check_drain_done(self, sample: AckSample) -> None:
        model = self.model
        if sample.pipe <= self._inflight(model.bw) or model.round_count > self._drain_end:
            self._start_down(sample.delivered, sample.now)

    # --- ProbeBW (§5.3.3.9) ------------------------------------------------------------------------------------------

    def _update_probe_bw_cycle_phase(self, sample: AckSample, limited: bool) -> None:
        """UpdateProbeBWCyclePhase."""
        if self._adapt_long_term_model(sample, limited):
            return
        if self.state in (DOWN, CRUISE):
            target = min(self._bdp_multiple(100, self.model.bw), self.cwnd)
            if self.probe.is_due(target // self._mss, sample.now):
                self._start_refill()
            elif self.state is DOWN and self._is_time_to_cruise(sample):
                self.state = CRUISE
        elif self.state is REFILL:
            if self.model.round_start:
                self._start_up(sample)
        elif self.state is UP and self._is_time_to_go_down(sample):
            self.probe.too_high = False
            self._start_down(sample.delivered, sample.now)

    def _adapt_long_term_model(self, sample: AckSample, limited: bool) -> bool:
        """AdaptLongTermModel: what the probe's ACKs mean. True: the state was changed."""
        probe, bounds, model = self.probe, self.bounds, self.model
        in_probe_bw = self.state in (DOWN, CRUISE, REFILL, UP)
        if model.round_start:
            if probe.ack_phase is AckPhase.STARTING:
                probe.ack_phase = AckPhase.FEEDBACK
            elif probe.ack_phase is AckPhase.STOPPING:
                probe.sampling = False
                probe.ack_phase = AckPhase.INIT
                if in_probe_bw and not limited:
                    model.advance_max_bw_filter()
                if in_probe_bw and probe.precautionary and not probe.too_high:
                    self._start_refill()
                    return True
        if bounds.inflight_longterm != INFINITE and not bounds.too_much(
            sample.lost_since, sample.tx_in_flight, model.min_rtt
        ):
            bounds.inflight_longterm = max(bounds.inflight_longterm, sample.tx_in_flight)
            if self.state is UP and self._at_longterm_bound:
                probe.raise_bound(bounds, sample.acked, self.cwnd, self._mss, round_start=model.round_start)
        return False

    def _is_time_to_cruise(self, sample: AckSample) -> bool:
        """The queue is drained, and there is headroom."""
        return sample.pipe <= min(self.bounds.with_headroom(self._mss), self._inflight(self.model.max_bw))

    def _is_time_to_go_down(self, sample: AckSample) -> bool:
        """The pipe is full, or a precautionary probe touches the bound. While the bound is in the way, nothing shows
        that the pipe is full."""
        if self.probe.too_high and sample.flight + self._mss > self.bounds.inflight_longterm:
            self.probe.precautionary = True
            return True
        if self._at_longterm_bound:
            self.model.reset_full_bw(sample.rate)
            return False
        return self.model.full_bw_now

    def _handle_inflight_too_high(self, inflight: int, app_limited: bool, now: int) -> None:
        """HandleInflightTooHigh (§5.5.10.2): once a probe, and by no more than cubic would."""
        self.probe.too_high = True
        self.probe.sampling = False
        if not app_limited:
            target = min(self._bdp_multiple(100, self.model.bw), self.cwnd)
            self.bounds.inflight_longterm = max(inflight, target * BETA[0] // BETA[1])
        if self.state is UP:
            self._undo_state = UP
            self._start_down(self.bounds.delivered, now)

    def _start_down(self, delivered: int, now: int) -> None:
        self.bounds.reset_signals()
        self.probe.stop(delivered, now)
        self.model.start_round(delivered)
        self.state = DOWN

    def _start_refill(self) -> None:
        self.bounds.reset_short_term()
        self.probe.refill()
        self.model.start_round(self.bounds.delivered)
        self.state = REFILL

    def _start_up(self, sample: AckSample) -> None:
        self.probe.start(self.cwnd, self._mss)
        self.model.start_round(sample.delivered)
        self.model.reset_full_bw(sample.rate)
        self.state = UP

    # --- ProbeRTT (§5.3.4.3) -----------------------------------------------------------------------------------------

    def _check_probe_rtt(self, sample: AckSample) -> None:
        """CheckProbeRTT."""
        if self.state is not PROBE_RTT and self.model.probe_rtt_expired and not self._idle_restart:
            self._save_cwnd()
            self.state = PROBE_RTT
            self._probe_rtt_done_stamp = 0
            self._probe_rtt_sent = (sample.delivered, sample.delivered)
            self.probe.ack_phase = AckPhase.STOPPING
            self.model.start_round(sample.delivered)
        if self.state is PROBE_RTT:
            self._handle_probe_rtt(sample)
        self._idle_restart = False

    def _handle_probe_rtt(self, sample: AckSample) -> None:
        """HandleProbeRTT: what is sent now, and until all of it is delivered, shows less than the bandwidth."""
        self._probe_rtt_sent = (self._probe_rtt_sent[0], sample.delivered + sample.pipe)
        if self._probe_rtt_done_stamp:
            self._probe_rtt_round_done |= self.model.round_start
            if self._probe_rtt_round_done:
                self._check_probe_rtt_done(sample.now)
        elif sample.pipe <= self._probe_rtt_cwnd:
            self._probe_rtt_done_stamp = sample.now + PROBE_RTT_DURATION
            self._probe_rtt_round_done = False
            self.model.start_round(sample.delivered)

    def _check_probe_rtt_done(self, now: int) -> None:
        """CheckProbeRTTDone and ExitProbeRTT: inflight is below the BDP, so go on cruising (§5.3.4.4)."""
        if not self._probe_rtt_done_stamp or now <= self._probe_rtt_done_stamp:
            return
        self.model.probe_rtt_min_stamp = now
        self._restore_cwnd()
        self.bounds.reset_short_term()
        if self.model.full_bw_reached:
            self._start_down(self.bounds.delivered, now)
            self.state = CRUISE
        else:
            self.state = STARTUP

    # --- control parameters (§5.6) -----------------------------------------------------------------------------------

    def pacing_rate(self, srtt: int) -> int:
        """Before the first ACK, the initial window's rate (§5.6.2)."""
        return self._pacing_rate or self._initial_rate(srtt)

    def _initial_rate(self, srtt: int) -> int:
        return initial_window(self._mss) * SEC // (srtt or NO_RTT) * STARTUP.pacing_gain // 100

    def _set_pacing_rate(self, gain: int) -> None:
        """SetPacingRateWithGain: before the pipe was full once, it only rises (§5.6.2)."""
        rate = self.model.bw * gain * PACING_MARGIN // 10_000
        if rate and (self.model.full_bw_reached or rate > self._pacing_rate):
            self._pacing_rate = rate

    def _bdp_multiple(self, gain: int, bw: int) -> int:
        """BDPMultiple (§5.6.4.2), bytes; ``gain`` in percent."""
        model = self.model
        return initial_window(self._mss) if model.min_rtt == NEVER else model.bdp(bw) * gain // 100

    def _quantization_budget(self, inflight: int) -> int:
        """QuantizationBudget: ``inflight``, but enough for the bursts of sender and receiver (§5.6.4.2)."""
        quantum = max(min(self._pacing_rate * QUANTUM_TIME // SEC, MAX_QUANTUM), 2 * self._mss)
        inflight = max(inflight, OFFLOAD_QUANTA * quantum, MIN_PIPE_SEGMENTS * self._mss)
        return inflight + 2 * self._mss if self.state is UP else inflight

    def _inflight(self, bw: int) -> int:
        """Inflight(1.0): what fills the pipe and makes no queue (§5.6.4.2)."""
        return self._quantization_budget(self._bdp_multiple(100, bw))

    @property
    def _probe_rtt_cwnd(self) -> int:
        return max(self._bdp_multiple(PROBE_RTT.cwnd_gain, self.model.bw), MIN_PIPE_SEGMENTS * self._mss)

    def _set_cwnd(self, sample: AckSample) -> None:
        """SetCwnd: up by what is acknowledged, down at once (§5.6.4.6)."""
        model, state = self.model, self.state
        target = self._bdp_multiple(state.cwnd_gain, model.bw) + model.extra_acked
        max_inflight = self._quantization_budget(target)
        cwnd = self.cwnd
        if model.full_bw_reached:
            cwnd = min(cwnd + sample.acked, max_inflight)
        elif cwnd < max_inflight or sample.delivered < initial_window(self._mss):
            cwnd += sample.acked
        least = MIN_PIPE_SEGMENTS * self._mss
        cwnd = max(cwnd, least)
        if state is PROBE_RTT:
            cwnd = min(cwnd, self._probe_rtt_cwnd)
        self.cwnd = min(cwnd, max(self._volume_cap, least))

    @property
    def _volume_cap(self) -> int:
        """BoundCwndForModel (§5.6.4.7), bytes."""
        bounds, state = self.bounds, self.state
        cap = INFINITE
        if state in (CRUISE, PROBE_RTT):
            cap = bounds.with_headroom(self._mss)
        elif state in (DOWN, REFILL, UP):
            cap = bounds.inflight_longterm
        return min(cap, bounds.inflight_shortterm)
