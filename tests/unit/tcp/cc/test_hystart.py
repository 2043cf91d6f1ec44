"""HyStart++ (RFC 9406): when slow start turns conservative, when that was a mistake, and when it ends."""

import pytest

from tests.support.one_flow import MSS, Bottleneck, Flow, World
from usertcp.tcp.cc.base import UNLIMITED, AckSample
from usertcp.tcp.cc.cubic import Cubic
from usertcp.tcp.cc.hystart import CSS_ROUNDS, HyStart, rtt_threshold
from usertcp.tcp.cc.newreno import NewReno
from usertcp.units import MS, SEC


class Rounds:
    """A HyStart, told of rounds."""

    def __init__(self) -> None:
        self.hystart = HyStart()
        self.delivered = 0
        self.begin = 0

    def play(self, rtt: int, samples: int = 8, segments: int = 2) -> int:
        """A round of ``samples`` ACKs, each for ``segments`` segments and with ``rtt`` ms; by how much the window grew
        with the last."""
        self.begin = self.delivered
        return self.more(rtt, samples, segments)

    def more(self, rtt: int, samples: int, segments: int = 2) -> int:
        """The round goes on."""
        grown = 0
        for _ in range(samples):
            sample = AckSample(acked=segments * MSS, flight=100 * MSS, rtt=rtt * MS if rtt else -1)
            self.delivered += sample.acked
            sample.delivered, sample.prior_delivered = self.delivered, self.begin
            grown = self.hystart.grow(sample, sample.acked, MSS)
        return grown


@pytest.mark.rfc(9406, "§4.2")
@pytest.mark.parametrize(("rtt", "threshold"), [(1, 4), (32, 4), (40, 5), (80, 10), (128, 16), (300, 16)])
def test_threshold_of_a_round_trip_is_an_eighth_between_4_and_16_ms(rtt: int, threshold: int) -> None:
    assert rtt_threshold(rtt * MS) == threshold * MS


@pytest.mark.rfc(9406, "§4.2")
def test_slow_start_with_equal_round_trips_grows_by_all_that_is_acknowledged() -> None:
    rounds = Rounds()
    assert [rounds.play(100) for _ in range(6)] == [2 * MSS] * 6
    assert not rounds.hystart.conservative


@pytest.mark.rfc(9406, "§4.2")
def test_slow_start_with_a_round_trip_longer_by_an_eighth_becomes_conservative() -> None:
    rounds = Rounds()
    rounds.play(100)
    rounds.play(112)
    assert not rounds.hystart.conservative
    assert rounds.play(126, samples=7) == 2 * MSS  # seven samples are not enough
    assert rounds.more(126, samples=1) == 2 * MSS // 4
    assert rounds.hystart.conservative


@pytest.mark.rfc(9406, "§4.2")
def test_one_short_trip_among_the_last_eight_is_no_queue() -> None:
    rounds = Rounds()
    rounds.play(100)
    rounds.play(101, samples=1)
    rounds.more(200, samples=7)
    assert not rounds.hystart.conservative
    rounds.more(200, samples=1)
    assert rounds.hystart.conservative


@pytest.mark.rfc(9406, "§4.2")
def test_conservative_slow_start_with_a_queue_that_grows_on_is_over_before_its_five_rounds() -> None:
    rounds = Rounds()
    rounds.play(100)
    rounds.play(113)
    assert rounds.hystart.conservative
    rounds.play(120)
    assert not rounds.hystart.over
    rounds.play(128)
    assert rounds.hystart.over


@pytest.mark.rfc(9406, "§4.2")
def test_conservative_slow_start_with_a_shorter_round_trip_goes_back() -> None:
    rounds = Rounds()
    rounds.play(100)
    rounds.play(120)
    assert rounds.hystart.conservative
    assert rounds.play(119) == 2 * MSS
    assert not rounds.hystart.conservative
    rounds.play(140)
    assert rounds.hystart.conservative  # from there it begins anew: five more rounds
    for _ in range(CSS_ROUNDS - 1):
        rounds.play(140)
        assert not rounds.hystart.over
    rounds.play(140)
    assert rounds.hystart.over


@pytest.mark.rfc(9406, "§4.2")
def test_conservative_slow_start_after_five_rounds_is_over() -> None:
    rounds = Rounds()
    rounds.play(100)
    rounds.play(120)  # the round in which it begins counts
    over = []
    for _ in range(CSS_ROUNDS):
        rounds.play(130)
        over.append(rounds.hystart.over)
    assert over == [False, False, False, False, True]


def test_round_of_few_stretch_acks_is_judged_at_its_end() -> None:
    rounds = Rounds()
    rounds.play(100, samples=2, segments=10)
    rounds.play(130, samples=2, segments=20)
    assert not rounds.hystart.conservative  # it might still get shorter
    rounds.play(130, samples=1)
    assert rounds.hystart.conservative


def test_round_of_few_segments_is_not_judged() -> None:
    rounds = Rounds()
    rounds.play(100, samples=7)
    rounds.play(130, samples=7)
    rounds.play(130, samples=1)
    assert not rounds.hystart.conservative


def test_samples_without_a_round_trip_do_not_count() -> None:
    rounds = Rounds()
    rounds.play(100)
    rounds.play(130, samples=7, segments=1)
    rounds.more(0, samples=1)
    assert not rounds.hystart.conservative
    rounds.more(130, samples=1)
    assert rounds.hystart.conservative


@pytest.mark.rfc(9406, "§4.2")
def test_cubic_on_a_deep_queue_leaves_slow_start_before_anything_is_lost() -> None:
    dropped = []
    for cc in (Cubic(MSS), NewReno(MSS)):
        path = Bottleneck(rate=20_000_000, buffer=12 * 20_000_000 // 8 // 10)  # twelve BDP
        world = World(Flow(cc, path, 100 * MS))
        while cc.ssthresh == UNLIMITED:
            world.run(10 * MS)
        dropped.append(path.dropped)
    assert dropped[0] == 0
    assert dropped[1] > 100  # the plain slow start finds the queue's end


@pytest.mark.rfc(9406, "§4.3")
def test_cubic_in_a_later_slow_start_does_not_use_hystart() -> None:
    cc = Cubic(MSS)
    cc.cwnd, cc.ssthresh = MSS, 400 * MSS
    delivered = 0
    for n in range(6):
        begin = delivered
        for _ in range(8):
            sample = AckSample(n * SEC, acked=MSS, flight=400 * MSS, rtt=(100 + 50 * n) * MS)
            delivered += MSS
            sample.delivered, sample.prior_delivered = delivered, begin
            cc.on_ack(sample)
    assert cc.cwnd == 49 * MSS
