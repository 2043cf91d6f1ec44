"""What losses tell BBR (draft-ietf-ccwg-bbr-06 §5.5.10), and when they are believed. What names no section is not in
the draft: the witness that losses need (see ``bbr_bounds``)."""

import pytest

from usertcp.tcp.cc.base import AckSample
from usertcp.tcp.cc.bbr_bounds import INFINITE, Bounds
from usertcp.tcp.cc.bbr_model import PathModel
from usertcp.units import MS

MSS = 1448
MB = 1_000_000
MIN_RTT = 50 * MS


class Path:
    """A :class:`Bounds`, told of ACKs on a path of 10 MB/s and 50 ms."""

    def __init__(self) -> None:
        self.bounds = Bounds()
        self.model = PathModel()
        self.model.max_bw = 10 * MB
        self.model.min_rtt = MIN_RTT
        self.now = self.delivered = 0

    def ack(self, rtt: int = 50, rate: int = 10 * MB, size: int = 10 * MSS, round_trip: int = 500_000) -> None:
        """An ACK that found ``rtt`` ms, for data sent ``round_trip`` bytes before."""
        self.now += MS
        self.delivered += size
        sample = AckSample(self.now, acked=size, rtt=rtt * MS)
        sample.rate = rate
        sample.delivered, sample.prior_delivered = self.delivered, max(0, self.delivered - round_trip)
        self.bounds.update_latest(sample)
        self.bounds.end_round(self.model, 1_000_000, probing=False)
        self.bounds.advance_latest(sample)

    def lose(self, size: int, places: int = 1) -> None:
        """``size`` bytes are lost in ``places``."""
        for _ in range(places):
            self.now += 1
            self.bounds.note_loss(size // places, MIN_RTT, self.now)

    def acks(self, count: int, rtt: int = 50, rate: int = 10 * MB) -> None:
        for _ in range(count):
            self.ack(rtt, rate)


def _settled(rtt: int) -> Path:
    path = Path()
    path.acks(60, rtt)
    return path


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.10.2")
@pytest.mark.parametrize(
    ("rtt", "segments", "too_much"),
    [
        (50, 100, False),  # without a queue the share of one round trip is not enough
        (55, 100, False),  # a round trip longer by less than an eighth is not a queue
        (57, 6, False),
        (57, 7, True),  # 2 % of 345 segments, and a queue
    ],
)
def test_loss_of_a_share_is_too_much_by_what_the_round_trips_say(rtt: int, segments: int, too_much: bool) -> None:
    path = _settled(rtt)
    path.lose(segments * MSS)
    assert path.bounds.too_much(segments * MSS, 500_000, MIN_RTT) is too_much


@pytest.mark.parametrize(("acks", "believed"), [(28, False), (24, True)])
def test_sixteen_losses_without_a_queue_are_believed_by_their_share(acks: int, believed: bool) -> None:
    """16 of 280 + 16 segments are 5.4 %, of 240 + 16 they are 6.3 %."""
    path = Path()
    path.acks(acks)
    path.lose(15 * MSS, 15)
    assert not path.bounds.too_much(15 * MSS, 345 * MSS, MIN_RTT)
    path.lose(MSS)
    assert path.bounds.too_much(16 * MSS, 345 * MSS, MIN_RTT) is believed


def test_losses_believed_by_their_share_are_until_the_next_sixteen_say_otherwise() -> None:
    path = Path()
    path.acks(10)
    path.lose(16 * MSS, 16)
    path.acks(60)
    path.lose(MSS)
    assert path.bounds.too_much(10 * MSS, 345 * MSS, MIN_RTT)
    path.lose(15 * MSS, 15)
    path.acks(60)
    path.lose(MSS)
    assert not path.bounds.too_much(10 * MSS, 345 * MSS, MIN_RTT)


def test_loss_of_half_a_window_in_one_place_is_an_outage() -> None:
    path = _settled(50)
    path.lose(150 * MSS)
    assert not path.bounds.too_much(150 * MSS, 345 * MSS, MIN_RTT)


def test_losses_that_one_ack_finds_are_one_place() -> None:
    path = _settled(50)
    for _ in range(20):
        path.bounds.note_loss(5 * MSS, MIN_RTT, path.now)
    assert path.bounds.losses == 1


def test_queue_with_one_short_trip_among_the_last_eight_is_none() -> None:
    path = _settled(80)
    path.ack(50)
    path.acks(7, 80)
    assert not path.bounds.too_much(10 * MSS, 345 * MSS, MIN_RTT)
    path.ack(80)
    assert path.bounds.too_much(10 * MSS, 345 * MSS, MIN_RTT)


def test_queue_with_a_short_trip_longer_ago_than_a_round_trip_is_one() -> None:
    path = _settled(50)
    path.now += 60 * MS
    path.ack(80)
    assert path.bounds.too_much(10 * MSS, 345 * MSS, MIN_RTT)


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.10.2")
def test_inflight_at_loss_is_where_the_losses_crossed_the_share() -> None:
    """(prefix + lost before) / (prefix + in flight before) = 2 %."""
    bounds = _settled(80).bounds
    inflight = bounds.inflight_at_loss(64_000, 1_064_000, 74_000, MIN_RTT)  # 10,000 of the million before were lost
    prefix = inflight - 1_000_000
    assert (10_000 + prefix) / inflight == pytest.approx(0.02, abs=1e-4)
    assert bounds.inflight_at_loss(64_000, 1_064_000, 200_000, MIN_RTT) == 1_000_000  # they crossed it before


def test_losses_without_a_queue_leave_the_short_term_bounds_alone() -> None:
    path = _settled(50)
    path.lose(5 * MSS)
    path.acks(60, rate=8 * MB)
    assert path.bounds.bw_shortterm == path.bounds.inflight_shortterm == INFINITE


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.10.3")
def test_losses_with_a_queue_bound_rate_and_volume_by_what_is_delivered() -> None:
    path = _settled(80)
    assert path.bounds.note_loss(MSS, MIN_RTT, path.now)
    assert not path.bounds.note_loss(MSS, MIN_RTT, path.now)  # the first of a round is told apart
    path.acks(34, 80, rate=9 * MB)
    assert path.bounds.bw_shortterm == INFINITE  # the round is not over
    path.acks(2, 80, rate=9 * MB)
    assert path.bounds.bw_shortterm == 10 * MB  # the most delivered in that round was from before the loss
    assert path.bounds.inflight_shortterm == 700_000  # beta of the window
    path.lose(MSS)
    path.acks(40, 80, rate=9 * MB)
    assert path.bounds.bw_shortterm == 9 * MB
    assert path.bounds.inflight_shortterm == 500_000  # more than beta of that: what a round trip delivered


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.10.3")
def test_rate_that_collapses_takes_off_three_tenths_a_round_at_most() -> None:
    path = _settled(80)
    path.acks(40, 80, rate=MB)
    for expected in (7 * MB, 4_900_000):
        path.lose(MSS)
        path.acks(40, 80, rate=MB)
        assert path.bounds.bw_shortterm == expected


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.10.3")
def test_losses_of_a_large_share_without_a_queue_bound_all_the_same() -> None:
    path = _settled(50)
    path.acks(40, rate=8 * MB)
    path.lose(100 * MSS, 16)
    path.acks(40, rate=8 * MB)
    assert path.bounds.bw_shortterm == 8 * MB


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§3.7")
def test_mark_without_a_queue_bounds_all_the_same() -> None:
    """A mark is congestion."""
    path = _settled(50)
    path.acks(40, rate=8 * MB)
    path.bounds.note_mark()
    path.acks(40, rate=8 * MB)
    assert path.bounds.bw_shortterm == 8 * MB


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.3.9")
def test_headroom_is_fifteen_percent_and_leaves_four_segments() -> None:
    bounds = Bounds()
    assert bounds.with_headroom(MSS) == INFINITE
    bounds.inflight_longterm = 1_000_000
    assert bounds.with_headroom(MSS) == 850_000
    bounds.inflight_longterm = 6 * MSS
    assert bounds.with_headroom(MSS) == 5 * MSS
    bounds.inflight_longterm = 4 * MSS
    assert bounds.with_headroom(MSS) == 4 * MSS


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.11.2")
def test_bounds_restored_are_at_least_those_saved() -> None:
    bounds = Bounds()
    bounds.inflight_longterm = 500_000
    bounds.save()
    bounds.bw_shortterm, bounds.inflight_shortterm, bounds.inflight_longterm = MB, 100_000, 300_000
    bounds.is_loss_in_round = True
    bounds.restore()
    assert (bounds.bw_shortterm, bounds.inflight_shortterm, bounds.inflight_longterm) == (INFINITE, INFINITE, 500_000)
    assert not bounds.is_loss_in_round
    bounds.inflight_longterm = 600_000
    bounds.restore()
    assert bounds.inflight_longterm == 600_000
