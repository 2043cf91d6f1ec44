"""CUBIC by RFC 9438: the curve, the Reno-friendly region, what a loss leaves, and time that does not count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.one_flow import MSS, Bottleneck, Flow, World, shares
from usertcp.tcp.cc.base import UNLIMITED, AckSample
from usertcp.tcp.cc.cubic import Cubic, cube_root
from usertcp.tcp.cc.newreno import NewReno
from usertcp.units import MS, SEC

RTT = 100 * MS
C = 0.4  # segments/s^3
BETA = 0.7


class Rounds:
    """A cubic in congestion avoidance after a loss at ``top`` segments, acknowledged a window at a time."""

    def __init__(self, top: int, rtt: int = RTT, stretch: int = 1) -> None:
        self.now = 1000 * SEC
        self.rtt = rtt
        self.stretch = stretch
        self.cc = Cubic(MSS)
        self.cc.cwnd = self.cc.ssthresh = top * MSS
        self.lose()

    def lose(self) -> None:
        """A loss, recovered from at once."""
        self.cc.on_congestion(self.cc.cwnd, self.now)
        self.cc.on_recovered(self.now)

    def ack(self, acked: int, *, limited: bool = True) -> None:
        sample = AckSample(self.now, acked=acked, flight=self.cc.cwnd, rtt=self.rtt)
        sample.srtt = self.rtt
        sample.cwnd_limited = limited
        self.cc.on_ack(sample)

    def round(self) -> None:
        """A round trip: the window is acknowledged, spread over it."""
        segments = self.cc.cwnd // MSS
        steps = max(segments // self.stretch, 1)
        begin = self.now
        for n in range(steps):
            self.now = begin + self.rtt * n // steps
            self.ack(segments * MSS // steps)
        self.now = begin + self.rtt

    @property
    def segments(self) -> float:
        return self.cc.cwnd / MSS


def _curve(top: float, begin: float, t: float) -> float:
    """W_cubic(t) in segments, by the RFC's formulas in floating point (figures 1 and 2)."""
    k = ((top - begin) / C) ** (1 / 3)
    return float(C * (t - k) ** 3 + top)


@given(st.integers(0, 1 << 200))
def test_cube_root_of_any_number_is_its_floor(n: int) -> None:
    root = cube_root(n)
    assert root**3 <= n < (root + 1) ** 3


@pytest.mark.rfc(9438, "§5.1")
@pytest.mark.rfc(9438, "§4.2")
@pytest.mark.parametrize("top", [500, 5_000])
@pytest.mark.parametrize("rtt", [20 * MS, 100 * MS])
def test_window_after_a_loss_follows_the_curve_for_a_minute(top: int, rtt: int) -> None:
    rounds = Rounds(top, rtt, stretch=44)
    begin = rounds.now
    reno = rounds.segments
    for _ in range(60 * SEC // rtt):
        rounds.round()
        t = (rounds.now - begin) / SEC
        reno += 9 / 17 if reno < top else 1  # W_est (figure 4)
        # The window aims at the curve a round trip ahead and grows by half at most; it lags by as much.
        low = max(_curve(top, BETA * top, t - rtt / SEC), reno) * 0.99 - 2
        high = max(_curve(top, BETA * top, t + rtt / SEC), reno) * 1.01 + 2
        assert low <= rounds.segments <= high, t


@pytest.mark.rfc(9438, "§4.2")
def test_window_k_seconds_after_a_loss_is_back_where_it_was() -> None:
    rounds = Rounds(1_000)
    k = ((1_000 - 700) / C) ** (1 / 3)  # 9.1 s
    for _ in range(int(k * SEC) // RTT):
        rounds.round()
    assert rounds.segments == pytest.approx(1_000, abs=2)


@pytest.mark.rfc(9438, "§4.2")
def test_window_far_below_the_curve_grows_by_half_a_round_trip_at_most() -> None:
    rounds = Rounds(20)
    rounds.ack(1)  # the epoch begins
    rounds.now += 60 * SEC
    for _ in range(14):
        rounds.ack(MSS)
    assert 19 <= rounds.segments <= 14 * 1.5


@pytest.mark.rfc(9438, "§4.3")
def test_small_window_grows_as_the_estimate_of_reno_does() -> None:
    rounds = Rounds(20, rtt=10 * MS)
    assert rounds.segments == 14
    growth = []
    for _ in range(34):
        before = rounds.segments
        rounds.round()
        growth.append(rounds.segments - before)
    assert set(growth) <= {0, 1}  # whole segments
    below = sum(growth[:11])  # 14 to 20: 9/17 a round trip
    assert below == 6 - 1 or below == 6
    assert sum(growth[12:]) >= 20  # from there one a round trip


@pytest.mark.rfc(9438, "§4.3")
@pytest.mark.parametrize("period", [100, 300, 1_000])
def test_reno_friendly_region_at_regular_losses_gets_what_reno_gets(period: int) -> None:
    """20 ms, so that the curve plays no part; every ``period``-th segment is lost."""
    goodputs = []
    for cc in (Cubic(MSS), NewReno(MSS)):
        path = Bottleneck(rate=1_000_000_000, buffer=10_000_000)
        flow = Flow(cc, path, 20 * MS, drop=lambda number: number % period == period - 1)
        goodputs += shares((flow,), World(flow), 2 * SEC, 30 * SEC)
    assert goodputs[0] == pytest.approx(goodputs[1], rel=0.15)


@pytest.mark.rfc(9438, "§4.6")
def test_loss_leaves_seven_tenths() -> None:
    cc = Cubic(MSS)
    cc.cwnd = cc.ssthresh = 100 * MSS
    cc.on_congestion(100 * MSS, 0)
    assert cc.ssthresh == 70 * MSS
    cc.on_recovered(0)
    assert cc.cwnd == 70 * MSS


@pytest.mark.rfc(9438, "§4.6")
def test_loss_with_the_smallest_window_leaves_two_segments() -> None:
    cc = Cubic(MSS)
    cc.cwnd = cc.ssthresh = 2 * MSS
    cc.on_congestion(2 * MSS, 0)
    assert cc.ssthresh == 2 * MSS


@pytest.mark.rfc(8511, "§3.1")
def test_mark_in_congestion_avoidance_leaves_seventeen_twentieths() -> None:
    cc = Cubic(MSS)
    cc.cwnd = cc.ssthresh = 100 * MSS
    cc.on_congestion(100 * MSS, 0, ecn=True)
    assert cc.ssthresh == 85 * MSS


@pytest.mark.rfc(8511, "§3")
def test_mark_in_slow_start_counts_as_a_loss() -> None:
    cc = Cubic(MSS)
    cc.cwnd = 100 * MSS
    cc.on_congestion(100 * MSS, 0, ecn=True)
    assert cc.ssthresh == 70 * MSS


@pytest.mark.rfc(9438, "§4.7")
def test_second_loss_below_the_first_plateaus_lower_still() -> None:
    """Fast convergence: at 800 after 1,000 the plateau is 800 * 0.85."""
    rounds = Rounds(1_000)
    rounds.cc.cwnd = 800 * MSS
    rounds.lose()
    k = ((680 - 560) / C) ** (1 / 3)
    growth = []
    for _ in range(2 * int(k * SEC) // RTT):
        before = rounds.segments
        rounds.round()
        growth.append(rounds.segments - before)
    flattest = min(range(len(growth)), key=lambda n: sum(growth[max(0, n - 5) : n + 6]))
    assert rounds.rtt * flattest / SEC == pytest.approx(k, abs=1)
    assert rounds.segments > 680


@pytest.mark.rfc(9438, "§4.7")
def test_second_loss_above_the_first_plateaus_where_it_happened() -> None:
    rounds = Rounds(1_000)
    rounds.cc.cwnd = 1_200 * MSS
    rounds.lose()
    k = ((1_200 - 840) / C) ** (1 / 3)
    for _ in range(int(k * SEC) // RTT):
        rounds.round()
    assert rounds.segments == pytest.approx(1_200, abs=2)


@pytest.mark.rfc(9438, "§4.8")
def test_time_out_starts_over_from_one_segment_with_seven_tenths_as_ssthresh() -> None:
    cc = Cubic(MSS)
    cc.cwnd = cc.ssthresh = 100 * MSS
    cc.on_rto(100 * MSS, 0, reduced=False)
    assert (cc.cwnd, cc.ssthresh) == (MSS, 70 * MSS)
    cc.on_rto(MSS, 0, reduced=True)
    assert (cc.cwnd, cc.ssthresh) == (MSS, 70 * MSS)


@pytest.mark.rfc(9438, "§4.8 growth")
def test_congestion_avoidance_after_a_time_out_knows_no_plateau() -> None:
    """K = 0: the curve rises from where slow start ended, and the window by a twentieth a round trip meanwhile."""
    rounds = Rounds(1_000)
    rounds.cc.on_rto(rounds.cc.cwnd, rounds.now, reduced=False)
    rounds.cc.cwnd = rounds.cc.ssthresh
    start = rounds.segments
    for _ in range(10):
        rounds.round()
    assert rounds.segments == pytest.approx(start * 1.05**10, rel=0.02)


@pytest.mark.rfc(9438, "§4.10")
@pytest.mark.rfc(9438, "§4.10 growth")
def test_slow_start_left_without_a_loss_goes_on_slowly_but_not_by_the_curve_alone() -> None:
    cc = Cubic(MSS)
    cc.cwnd = cc.ssthresh = 200 * MSS
    now = SEC
    for _ in range(200):
        now += RTT // 200
        sample = AckSample(now, acked=MSS, flight=200 * MSS, rtt=RTT)
        sample.srtt = RTT
        cc.on_ack(sample)
    assert 208 <= cc.cwnd // MSS <= 211


@pytest.mark.rfc(9438, "§4.9")
def test_spurious_loss_puts_the_window_back_on_its_old_curve() -> None:
    undone, untouched = Rounds(1_000), Rounds(1_000)
    for _ in range(30):
        undone.round()
        untouched.round()
    undone.lose()
    assert undone.cc.cwnd < untouched.cc.cwnd
    undone.cc.on_spurious()
    assert (undone.cc.cwnd, undone.cc.ssthresh) == (untouched.cc.cwnd, untouched.cc.ssthresh)
    for _ in range(60):
        undone.round()
        untouched.round()
    assert undone.segments == pytest.approx(untouched.segments, abs=1)


@pytest.mark.rfc(9438, "§4.9")
def test_spurious_loss_before_any_other_leaves_the_window_that_was_doubted_as_w_max() -> None:
    """Nothing was known of the path: the window grew by a twentieth a round trip, and now by the curve or like Reno."""
    rounds = Rounds(1_000)
    rounds.cc = Cubic(MSS)
    rounds.cc.cwnd = rounds.cc.ssthresh = 100 * MSS
    for _ in range(5):
        rounds.round()
    assert rounds.segments >= 120
    rounds.cc.on_congestion(rounds.cc.cwnd, rounds.now)
    rounds.cc.on_spurious()
    before = rounds.segments
    for _ in range(10):
        rounds.round()
    assert before <= rounds.segments <= before + 10  # Reno's slope, at most


@pytest.mark.rfc(9438, "§4.9")
def test_spurious_loss_found_out_late_changes_nothing() -> None:
    late, untouched = Rounds(100), Rounds(100)
    for rounds in (late, untouched):
        rounds.lose()
        for _ in range(100):
            rounds.round()
    assert late.segments > 100
    late.cc.on_spurious()
    for _ in range(20):
        late.round()
        untouched.round()
    assert late.cc.cwnd == untouched.cc.cwnd


@pytest.mark.rfc(9438, "§5.8")
def test_time_in_which_the_window_was_not_used_does_not_count() -> None:
    paused, busy = Rounds(1_000), Rounds(1_000)
    for _ in range(20):
        paused.round()
        busy.round()
    window = paused.cc.cwnd
    for _ in range(50):  # five seconds in which the application is the limit
        paused.now += RTT
        paused.ack(10 * MSS, limited=False)
    assert paused.cc.cwnd == window
    for _ in range(20):
        paused.round()
        busy.round()
    assert paused.segments == pytest.approx(busy.segments, abs=2)


@pytest.mark.rfc(9438, "§5.8")
def test_time_of_idleness_does_not_count() -> None:
    paused, busy = Rounds(1_000), Rounds(1_000)
    for _ in range(20):
        paused.round()
        busy.round()
    paused.now += 30 * SEC
    paused.cc.on_send(paused.now, app_limited=True, flight=0)
    for _ in range(20):
        paused.round()
        busy.round()
    assert paused.segments == pytest.approx(busy.segments, abs=2)


def test_slow_start_after_idleness_begins_a_new_epoch() -> None:
    rounds = Rounds(100)
    for _ in range(20):
        rounds.round()
    window = rounds.cc.cwnd
    rounds.cc.on_idle(SEC, 200 * MS, rounds.now)
    assert (rounds.cc.cwnd, rounds.cc.ssthresh) == (10 * MSS, window * 3 // 4)
    rounds.now += 60 * SEC
    while rounds.cc.cwnd < rounds.cc.ssthresh:
        rounds.round()
    before = rounds.segments
    rounds.round()
    assert rounds.segments - before <= 3  # and not half the window, as sixty seconds up the curve


@pytest.mark.parametrize("stretch", [1, 2, 16, 44])
def test_window_acknowledged_in_bursts_takes_whole_segments_at_the_same_pace(stretch: int) -> None:
    rounds = Rounds(1_000, stretch=stretch)
    for _ in range(50):
        rounds.round()
        assert rounds.cc.cwnd % MSS == 0
    assert rounds.segments == pytest.approx(_curve(1_000, 700, 5.05), abs=4)


def test_cubic_in_its_first_slow_start_doubles() -> None:
    cc = Cubic(MSS)
    assert cc.ssthresh == UNLIMITED
    for _ in range(10):
        cc.on_ack(AckSample(SEC, acked=MSS, flight=10 * MSS, rtt=RTT))
    assert cc.cwnd == 20 * MSS


def test_cubic_asked_to_pace_does_not() -> None:
    assert Cubic(MSS).pacing_rate(10 * MS) == 0


@pytest.mark.parametrize("delay", [20, 100])
def test_two_cubic_flows_share_evenly(delay: int) -> None:
    rate = 20_000_000
    path = Bottleneck(rate, rate * delay // 8000)
    flows = tuple(Flow(Cubic(MSS), path, delay * MS, start=n * SEC) for n in range(2))
    one, two = shares(flows, World(*flows), 20 * SEC, 120 * SEC)
    assert (one + two) ** 2 / 2 / (one * one + two * two) >= 0.95
    assert one + two >= 0.9 * rate
