"""The model of Linux's cubic by itself: it has to be right before ours is compared with it."""

import random

import pytest

from tests.support.linux_cubic import FRIENDLY, LinuxCubic, cube_root
from usertcp.tcp.cc.base import UNLIMITED, AckSample
from usertcp.units import MS, SEC

MSS = 1000


def ack(cc: LinuxCubic, now: int, packets: int = 1, *, rtt: int = 100 * MS, delivered: int = 0, prior: int = 0) -> None:
    sample = AckSample(now, acked=packets * MSS, flight=cc.cwnd, rtt=rtt)
    sample.delivered, sample.prior_delivered = delivered, prior
    cc.on_ack(sample)


def reduced(packets: int) -> LinuxCubic:
    """An algorithm that lost something with a window of ``packets`` and has recovered."""
    cc = LinuxCubic(MSS)
    cc.cwnd = packets * MSS
    cc.on_congestion(cc.cwnd, 0)
    cc.on_recovered(0)
    return cc


def rounds(cc: LinuxCubic, seconds: int, rtt: int) -> list[tuple[float, int]]:
    """(time since the first ACK, packets) after each ACK of ``seconds`` in which the window is always full."""
    now, out = SEC, []
    start = now
    while now - start < seconds * SEC:
        packets = cc.packets
        for n in range(0, packets, 2):
            at = now + rtt * n // packets
            ack(cc, at, 2, rtt=rtt)
            out.append(((at - start) / SEC, cc.packets))
        now += rtt
    return out


def test_cube_root_is_the_largest_integer() -> None:
    draw = random.Random(1)
    for value in [0, 1, 7, 8, 9, 26, 27, *(draw.randrange(1 << 60) for _ in range(500))]:
        root = cube_root(value)
        assert root**3 <= value < (root + 1) ** 3


def test_window_after_a_loss_follows_the_cubic_through_the_old_one() -> None:
    rtt = 200 * MS
    seen = rounds(reduced(1000), 12, rtt)
    assert seen[0][1] == 700  # beta 717/1024
    k = (300 / (41 / 102.4)) ** (1 / 3)
    for time, packets in seen:
        wanted = 1000 + 41 / 102.4 * (time + 0.2 - k) ** 3
        assert packets == pytest.approx(wanted, rel=0.03)
    assert seen[-1][1] > 1005  # beyond the plateau


def test_small_window_grows_with_the_slope_of_reno() -> None:
    seen = rounds(reduced(20), 2, 20 * MS)
    grown = seen[-1][1] - seen[0][1]
    assert grown == pytest.approx(100 * 8 / FRIENDLY, rel=0.15)  # packets in 100 round trips


def test_second_loss_below_the_old_window_gives_way_by_more() -> None:
    cc = reduced(100)
    assert cc._last_max == 100
    cc.on_congestion(cc.cwnd, SEC)
    assert cc._last_max == 59  # 70 packets times (1 + beta) / 2


def test_slow_start_ends_when_the_round_trips_grow() -> None:
    cc = LinuxCubic(MSS)
    now, delivered = 0, 0
    for number, rtt in enumerate((100 * MS, 100 * MS, 100 * MS, 114 * MS)):
        assert cc.ssthresh == UNLIMITED
        begun, now = delivered, SEC * (number + 1)
        for n in range(cc.packets):
            delivered += MSS
            ack(cc, now + n * 3 * MS, rtt=rtt, delivered=delivered, prior=begun if n == 0 else begun - 1)
    assert cc.ssthresh < UNLIMITED
    assert cc.cwnd >= cc.ssthresh


def test_slow_start_ends_at_a_train_of_half_a_round_trip() -> None:
    cc = LinuxCubic(MSS)
    cc.cwnd = 50 * MSS
    for n in range(60):
        ack(cc, SEC + n * MS, rtt=100 * MS, delivered=(n + 1) * MSS, prior=0 if n == 0 else -1)
        assert (cc.ssthresh < UNLIMITED) == (n > 50)


def test_time_out_starts_over_from_one_packet_and_forgets() -> None:
    cc = reduced(100)
    cc.on_rto(cc.cwnd, SEC, reduced=False)
    assert (cc.packets, cc.ssthresh) == (1, 49 * MSS)
    assert cc._last_max == 0
    cc.on_spurious()
    assert (cc.packets, cc.ssthresh) == (70, 70 * MSS)
