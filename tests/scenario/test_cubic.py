"""CUBIC's window on a whole connection, against the RFC's formulas in floating point; slow start left early."""

import pytest

from tests.scenario.course import Course
from usertcp.tcp.cc.base import UNLIMITED
from usertcp.units import MS, SEC

C = 0.4  # segments/s^3
BETA = 0.7
ALPHA = 3 * (1 - BETA) / (1 + BETA)


def w_cubic(top: float, t: float) -> float:
    """The window ``t`` seconds after a loss at ``top``, in segments (figures 1 and 2)."""
    k = ((top - BETA * top) / C) ** (1 / 3)
    return float(C * (t - k) ** 3 + top)


class Loss:
    """One segment of a window of ``segments`` is lost, on a path without end: ``top``, the window then, and ``begin``,
    when congestion avoidance began after it."""

    def __init__(self, segments: int, rtt: int, mss: int) -> None:
        self.course = c = Course("cubic", rtt=rtt, mss=mss, buffer=16 << 20)
        c.cc.cwnd = c.cc.ssthresh = segments * mss
        c.lose = {segments // 2}
        self.top, self.begin = 0.0, 0
        c.run(4 * rtt, self._watch)
        assert c.phase == "OPEN"

    def _watch(self) -> None:
        c = self.course
        if c.phase != "OPEN":
            self.begin = -1
        elif self.begin == 0:
            self.top = c.cwnd
        elif self.begin < 0:
            self.begin = c.now

    @property
    def t(self) -> float:
        return (self.course.now - self.begin) / SEC


@pytest.mark.rfc(9438, "§4.4")
@pytest.mark.rfc(9438, "§4.5")
@pytest.mark.rfc(9438, "§4.2")
def test_rfc9438_4_2_window_after_a_loss_is_w_cubic_every_second_of_a_minute() -> None:
    """Segments of 64 bytes, since there are 69,000 in the end: the curve knows segments, and no bytes. The window at
    t aims at W_cubic(t + RTT), so it is between the two, to a
    hundredth."""
    rtt = 400 * MS
    loss = Loss(100, rtt, 64)
    for _ in range(60):
        loss.course.run(SEC)
        low, high = w_cubic(loss.top, loss.t), w_cubic(loss.top, loss.t + rtt / SEC)
        assert 0.99 * low - 2 <= loss.course.cwnd <= 1.01 * high + 2, loss.t
    assert loss.course.cwnd > 60_000
    assert loss.course.user.snd.timeouts == 0


@pytest.mark.rfc(9438, "§4.3")
def test_rfc9438_4_3_small_window_and_short_round_trip_grows_by_w_est_and_by_one_from_the_old_window_on() -> None:
    rtt = 20 * MS
    loss = Loss(40, rtt, 1000)
    estimate = BETA * loss.top
    for _ in range(3 * SEC // rtt):
        loss.course.run(rtt)
        estimate += ALPHA if estimate < loss.top else 1
        assert loss.course.cwnd == pytest.approx(estimate, rel=0.02, abs=2), loss.t
    assert loss.course.cwnd > 3 * w_cubic(loss.top, loss.t)  # by the curve it would hardly be back


@pytest.mark.rfc(9293, "MAY-18")
@pytest.mark.rfc(9438, "§4.6")
def test_rfc9438_4_6_loss_leaves_seven_tenths_of_the_window() -> None:
    loss = Loss(100, 100 * MS, 1000)
    assert loss.course.cc.ssthresh == pytest.approx(BETA * loss.top * 1000, abs=1000)


@pytest.mark.rfc(9438, "§4.2")
@pytest.mark.rfc(9438, "§4.7")
def test_rfc9438_4_7_windows_between_the_losses_of_a_queue_follow_their_curves_for_a_minute() -> None:
    """2 Mbit/s and 200 ms, with a queue of as much again. After each loss the curve is the RFC's for the window at
    that loss, or for 0.85 of it if it did not get to the last W_max (fast convergence)."""
    c = Course("cubic", rtt=200 * MS, gap=4 * MS, queue=50)
    tops: list[float] = []
    w_max, begin, before, checked = 0.0, -1, c.cwnd, 0

    def watch() -> None:
        nonlocal before, begin, w_max, checked
        if c.phase != "OPEN":
            if before:
                tops.append(before)
                w_max = before * (1 + BETA) / 2 if before < w_max else before
            before, begin = 0.0, -1
            return
        before = c.cwnd
        if not w_max:
            return
        if begin < 0:
            begin = c.now
        start = BETA * tops[-1]
        k = ((w_max - start) / C) ** (1 / 3)
        t = (c.now - begin) / SEC
        ahead = c.user.snd.rtt.srtt / SEC
        low, high = (C * (at - k) ** 3 + w_max for at in (t - ahead, t + ahead))
        assert low - 3 <= c.cwnd <= high + 3, (t, w_max)
        checked += 1

    c.run(60 * SEC, watch)
    assert len(tops) >= 5
    assert checked > 5_000


# --- HyStart++ -------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(9406, "§4.2")
def test_rfc9406_4_2_slow_start_ends_by_the_delay_before_the_deep_queue_is_full() -> None:
    """5 Mbit/s and 100 ms hold 62 segments, and six times as many may wait."""
    windows = {}
    for name in ("cubic", "reno"):
        c = Course(name, rtt=100 * MS, gap=1600_000, queue=372)
        c.run_until(lambda c=c: c.cc.ssthresh < UNLIMITED, 10 * SEC)  # type: ignore[misc]
        windows[name] = c.cwnd
        assert bool(c.dropped) is (name == "reno")
    assert 62 <= windows["cubic"] < 3 * 62
    assert windows["reno"] > 200


@pytest.mark.rfc(9406, "§4.2")
def test_rfc9406_4_2_conservative_slow_start_grows_by_a_quarter_and_ends_after_five_rounds() -> None:
    """The round trip became longer and stays so."""
    c = Course("cubic", rtt=100 * MS)
    c.run(250 * MS)
    assert c.cwnd == 40
    c.rtt = 115 * MS
    rounds = []
    while c.cc.ssthresh == UNLIMITED:
        before = c.cwnd
        c.run(115 * MS)
        rounds.append(round(c.cwnd / before, 2))
        assert len(rounds) < 12
    assert rounds[0] == 2.0
    assert rounds.count(1.25) == 4, rounds  # the fifth is the one in which it began


@pytest.mark.rfc(9406, "§4.2")
def test_rfc9406_4_2_delay_that_was_jitter_resumes_slow_start() -> None:
    c = Course("cubic", rtt=100 * MS)
    c.run(250 * MS)
    c.rtt = 115 * MS
    c.run(300 * MS)
    c.rtt = 100 * MS
    c.run(250 * MS)
    assert c.cc.ssthresh == UNLIMITED
    before = c.cwnd
    c.run(100 * MS)
    assert c.cwnd == pytest.approx(2 * before, rel=0.05)
