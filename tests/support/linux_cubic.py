"""A model of Linux's ``cubic``, to compare ours with: in integers, packets and ticks, as the kernel reckons.

Written from what is known of the kernel's algorithm (Linux 6.x), not from RFC 9438, and apart from ours. The two differ
where the kernel's arithmetic does:

- the window is a number of packets, time a number of ticks of 1 ms, and K and the cubic's argument are in 1/1024 s
- C is 41/1024 by a scale of ten (0.4 per cubic second), beta 717/1024, and the Reno-friendly slope follows by 15/8
- the window's target is looked at once a tick or when the window changed, and the growth is "one packet for ``cnt``
  acknowledged", at most one for two, and no slower than one for twenty before the first loss
- HyStart is the original one (Ha and Rhee 2008): it leaves slow start at once, when a train of closely spaced ACKs is
  longer than half the smallest round trip, or when the round trips have grown by an eighth, 4 to 16 ms

ACKs are counted by what they acknowledge, so the ratio by which older kernels allowed for delayed ACKs is not here, as
it is not in the kernel any more. The kernel does not pace ``cubic`` unless asked to, and neither does this.
"""

from typing import ClassVar, Final

from usertcp.tcp.cc.base import UNLIMITED, AckSample, CongestionControl
from usertcp.units import MS, US

TICK: Final = 1 * MS  # HZ = 1000
BETA: Final = 717  # of 1024
UNIT: Final = 1024  # of a second, "BICTCP_HZ"
SCALE: Final = 41 * 10  # C
ROOM: Final = 40  # bits: 10 of C's denominator and 3 * 10 of the cubed time
FRIENDLY: Final = 8 * (1024 + BETA) // 3 // (1024 - BETA)  # in eighths

LOW_WINDOW: Final = 16  # packets, below which HyStart does not look
TRAIN_GAP: Final = 2000 * US  # ACKs closer than that belong together
SAMPLES: Final = 8  # of the round trip, before it is judged
DELAY_MIN: Final = 4 * MS
DELAY_MAX: Final = 16 * MS


def cube_root(value: int) -> int:
    """The largest integer whose cube is not above ``value``."""
    root = int(value ** (1 / 3))
    while root**3 > value:
        root -= 1
    while (root + 1) ** 3 <= value:
        root += 1
    return root


class LinuxCubic(CongestionControl):
    """Times in ns but for the epoch's, which is in ticks; windows in packets."""

    __slots__ = (
        "_ack_count",
        "_acked",
        "_count",
        "_credit",
        "_curr_rtt",
        "_delay_min",
        "_epoch",
        "_found",
        "_k",
        "_last_ack",
        "_last_cwnd",
        "_last_max",
        "_last_tick",
        "_origin",
        "_prior_cwnd",
        "_prior_ssthresh",
        "_round_end",
        "_round_start",
        "_samples",
        "_tcp_cwnd",
    )

    name: ClassVar[str] = "linux-cubic"

    def __init__(self, mss: int) -> None:
        super().__init__(mss)
        self._acked = 0  # bytes that are no whole packet yet
        self._credit = 0  # packets acknowledged towards the next step ("snd_cwnd_cnt")
        self._prior_cwnd = self._prior_ssthresh = 0
        self._round_end = 0  # of the data delivered when the round began
        self._reset()

    def _reset(self) -> None:
        """Everything is forgotten: at the beginning, and after a time-out."""
        self._epoch: int | None = None  # when this cubic began
        self._last_max = 0
        self._last_cwnd = 0
        self._last_tick = 0
        self._origin = 0
        self._k = 0
        self._count = 0  # packets for one step
        self._delay_min = 0
        self._ack_count = 0
        self._tcp_cwnd = 0
        self._found = False  # HyStart has struck
        self._round_start = self._last_ack = 0
        self._curr_rtt = UNLIMITED * SAMPLES
        self._samples = 0

    @property
    def packets(self) -> int:
        """The window."""
        return max(self.cwnd // self._mss, 1)

    # -- what the sender tells -----------------------------------------------------------------------------------------

    def on_ack(self, sample: AckSample) -> None:
        self._acked += sample.acked
        packets, self._acked = divmod(self._acked, self._mss)
        self._measure(sample)
        if not sample.cwnd_limited or not packets:
            return
        cwnd = self.packets
        if self.cwnd < self.ssthresh:
            grown = min(cwnd + packets, max(self.ssthresh // self._mss, cwnd))
            packets -= grown - cwnd
            cwnd = grown
        if packets:
            self._update(cwnd, packets, sample.now // TICK)
            cwnd = self._step(cwnd, packets)
        self.cwnd = cwnd * self._mss

    def on_congestion(self, flight: int, now: int, *, ecn: bool = False) -> None:
        self._remember()
        self._reduce()

    def on_rto(self, flight: int, now: int, *, reduced: bool) -> None:
        if not reduced:
            self._remember()
            self._reduce()
        self._reset()
        self._credit = 0
        self.cwnd = self._mss

    def on_recovered(self, now: int) -> None:
        self.cwnd = self.ssthresh
        self._credit = 0

    def on_spurious(self) -> None:
        self.cwnd = max(self.cwnd, self._prior_cwnd)
        self.ssthresh = max(self.ssthresh, self._prior_ssthresh)

    def _remember(self) -> None:
        self._prior_cwnd = self.cwnd
        self._prior_ssthresh = self.ssthresh

    def _reduce(self) -> None:
        cwnd = self.packets
        self._epoch = None
        self._last_max = cwnd * (1024 + BETA) // 2048 if cwnd < self._last_max else cwnd  # fast convergence
        self.ssthresh = max(cwnd * BETA // 1024, 2) * self._mss

    # -- the cubic -----------------------------------------------------------------------------------------------------

    def _update(self, cwnd: int, packets: int, tick: int) -> None:
        """How many packets make one step."""
        self._ack_count += packets
        if self._last_cwnd == cwnd and tick - self._last_tick <= 1000 // 32:
            return
        if self._epoch is None or tick != self._last_tick:
            self._last_cwnd, self._last_tick = cwnd, tick
            if self._epoch is None:
                self._begin(cwnd, packets, tick)
            assert self._epoch is not None
            time = (tick - self._epoch + self._delay_min // TICK) * UNIT // 1000
            delta = SCALE * abs(time - self._k) ** 3 >> ROOM
            target = self._origin - delta if time < self._k else self._origin + delta
            self._count = cwnd // (target - cwnd) if target > cwnd else 100 * cwnd
            if not self._last_max:
                self._count = min(self._count, 20)
        per_step = cwnd * FRIENDLY >> 3
        while self._ack_count > per_step:
            self._ack_count -= per_step
            self._tcp_cwnd += 1
        if self._tcp_cwnd > cwnd:
            self._count = min(self._count, cwnd // (self._tcp_cwnd - cwnd))
        self._count = max(self._count, 2)

    def _begin(self, cwnd: int, packets: int, tick: int) -> None:
        """A new cubic, through the window at the last loss."""
        self._epoch = tick
        self._ack_count = packets
        self._tcp_cwnd = cwnd
        below = self._last_max - cwnd
        self._k = cube_root((1 << ROOM) // SCALE * below) if below > 0 else 0
        self._origin = max(self._last_max, cwnd)

    def _step(self, cwnd: int, packets: int) -> int:
        """The window after ``packets`` more were acknowledged."""
        if self._credit >= self._count:
            self._credit = 0
            cwnd += 1
        self._credit += packets
        steps = self._credit // self._count
        self._credit -= steps * self._count
        return cwnd + steps

    # -- HyStart -------------------------------------------------------------------------------------------------------

    def _measure(self, sample: AckSample) -> None:
        """A round trip was measured; those soon after a recovery are not taken."""
        if sample.rtt < 0 or (self._epoch is not None and sample.now // TICK - self._epoch < 1000):
            return
        if not self._delay_min or sample.rtt < self._delay_min:
            self._delay_min = max(sample.rtt, 1)
        if not self._found and self.cwnd < self.ssthresh and self.packets >= LOW_WINDOW:
            self._look(sample)

    def _look(self, sample: AckSample) -> None:
        now = sample.now
        if sample.prior_delivered >= self._round_end:  # what was sent in this round is being acknowledged
            self._round_end = sample.delivered
            self._round_start = self._last_ack = now
            self._curr_rtt = sample.rtt
            self._samples = 0
        if now - self._last_ack <= TRAIN_GAP:
            self._last_ack = now
            if now - self._round_start > self._delay_min // 2:
                self._leave()
        self._curr_rtt = min(self._curr_rtt, sample.rtt)
        if self._samples < SAMPLES:
            self._samples += 1
        elif self._curr_rtt > self._delay_min + min(max(self._delay_min >> 3, DELAY_MIN), DELAY_MAX):
            self._leave()

    def _leave(self) -> None:
        """Slow start ends here."""
        self._found = True
        self.ssthresh = self.packets * self._mss
