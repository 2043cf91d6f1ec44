"""BBR's states and its cycle of probing on a whole connection (draft-ietf-ccwg-bbr-06): one sender alone on 5.8 Mbit/s
and 100 ms, 50 segments, where 100 more may wait."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import pytest

from tests.scenario.course import Course
from usertcp.tcp.cc.bbr import CRUISE, DOWN, DRAIN, PROBE_RTT, REFILL, STARTUP, UP, Bbr, BbrState
from usertcp.tcp.cc.bbr_bounds import INFINITE
from usertcp.units import MS, SEC

MSS = 1448
GAP = 2 * MS
RTT = 100 * MS
RATE = MSS * SEC // GAP  # bytes a second
BDP = RATE * RTT // SEC


@dataclass
class Stay:
    """One stay in a state: when, which rounds, what was in flight in its beginning, at most and in its end, the last
    window, and the rate at which it paced, as a share of ``bw``."""

    state: BbrState
    begin: int
    end: int
    rounds: list[int]
    pipe: list[int]
    cwnd: int
    paced: set[float]

    @property
    def lasted(self) -> int:
        return self.end - self.begin


def bbr(c: Course) -> Bbr:
    assert isinstance(c.cc, Bbr)
    return c.cc


def record(c: Course, duration: int) -> list[Stay]:
    cc, stays = bbr(c), list[Stay]()

    def watch() -> None:
        if not stays or stays[-1].state is not cc.state:
            stays.append(Stay(cc.state, c.now, c.now, [], [], 0, set()))
        stay = stays[-1]
        stay.end, stay.cwnd = c.now, cc.cwnd
        stay.rounds.append(cc.model.round_count)
        stay.pipe.append(c.user.snd.pipe)
        if cc.model.bw:
            stay.paced.add(round(cc.pacing_rate(0) / cc.model.bw, 2))

    c.run(duration, watch)
    return stays


@cache
def played() -> list[Stay]:
    """Twenty seconds."""
    c = Course("bbr", rtt=RTT, gap=GAP, queue=100, mss=MSS)
    stays = record(c, 20 * SEC)
    assert not c.dropped
    return stays[:-1]


def of(state: BbrState) -> list[Stay]:
    stays = [stay for stay in played() if stay.state is state]
    assert stays
    return stays


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.1.1")
def test_bbr06_5_1_1_states_follow_each_other_as_drawn() -> None:
    order = {
        STARTUP: {DRAIN},
        DRAIN: {DOWN, CRUISE},  # CRUISE: DOWN is over with the same ACK
        DOWN: {CRUISE, PROBE_RTT},
        CRUISE: {REFILL, PROBE_RTT},
        REFILL: {UP, PROBE_RTT},
        UP: {DOWN, PROBE_RTT},
        PROBE_RTT: {CRUISE},
    }
    names = [stay.state for stay in played()]
    assert all(after in order[before] for before, after in pairwise(names)), names
    assert set(names) == set(order)


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.1.1")
def test_bbr06_5_3_1_1_startup_doubles_its_rate_every_round_trip() -> None:
    c = Course("bbr", rtt=RTT, gap=GAP // 20, queue=1000, mss=MSS)
    sent = []
    for _ in range(5):
        before = sum(size for _, size in c.left)
        c.run(RTT)
        sent.append(sum(size for _, size in c.left) - before)
    assert bbr(c).state is STARTUP
    assert all(1.7 <= after / before <= 2.8 for before, after in pairwise(sent)), sent


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.1.2")
def test_bbr06_5_3_1_2_startup_ends_when_the_rate_grew_by_less_than_a_quarter_for_three_rounds() -> None:
    (stay,) = of(STARTUP)
    assert 2 + 3 <= len(set(stay.rounds)) <= 4 + 4  # 10, 20, 40, 80 segments: the third or fourth round fills the pipe
    assert stay.lasted < 12 * RTT


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.1.3")
def test_bbr06_5_3_1_3_startup_that_overflows_a_shallow_queue_ends_by_its_losses_and_remembers_the_volume() -> None:
    c = Course("bbr", rtt=RTT, gap=GAP, queue=10, mss=MSS)
    c.run_until(lambda: bbr(c).state is not STARTUP, 5 * SEC)
    assert len(c.dropped) >= 6
    assert not bbr(c).model.full_bw_now
    assert 0.7 * BDP <= bbr(c).bounds.inflight_longterm < INFINITE


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.2")
def test_bbr06_5_3_2_drain_paces_at_half_until_the_queue_is_gone() -> None:
    (stay,) = of(DRAIN)
    assert stay.pipe[0] > 1.4 * BDP
    assert stay.pipe[-1] == pytest.approx(BDP, rel=0.1)
    assert stay.lasted < 4 * RTT


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.3.1")
def test_bbr06_5_3_3_1_down_ends_when_what_is_in_flight_is_no_more_than_the_bdp() -> None:
    for stay in of(DOWN):
        assert stay.pipe[0] > 1.1 * BDP
        assert stay.pipe[-1] <= 1.05 * BDP


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.3.3")
def test_bbr06_5_3_3_3_refill_lasts_one_round_trip() -> None:
    for stay in of(REFILL):
        assert stay.lasted == pytest.approx(RTT, rel=0.15)
        assert stay.pipe[-1] >= 0.9 * BDP


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.3.5")
def test_bbr06_5_3_3_5_up_puts_at_least_a_quarter_more_than_the_bdp_in_flight() -> None:
    for stay in of(UP):
        assert max(stay.pipe) >= 1.2 * BDP


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.3.7")
def test_bbr06_5_3_3_7_up_ends_after_three_rounds_without_a_faster_delivery() -> None:
    for stay in of(UP):
        assert 3 <= stay.rounds[-1] - stay.rounds[0] + 1 <= 4


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.3.8")
def test_bbr06_5_3_3_8_cruise_waits_two_to_three_seconds_for_the_next_probe() -> None:
    waits = []
    for before, cruise, after in zip(played(), played()[1:], played()[2:], strict=False):
        if before.state in (DRAIN, PROBE_RTT) and cruise.state is CRUISE:  # a cycle began there and then
            assert after.state is REFILL
            waits.append(after.begin - cruise.begin)
    assert len(waits) >= 4
    assert all(2 * SEC < wait < 3 * SEC + RTT for wait in waits), waits
    assert len(set(waits)) == len(waits)


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.4.1")
def test_bbr06_5_3_4_1_probe_rtt_halves_what_is_in_flight_for_200_ms_every_five_seconds() -> None:
    stays = of(PROBE_RTT)
    for stay in stays:
        assert min(stay.pipe) == pytest.approx(BDP / 2, rel=0.1)
        assert 200 * MS <= stay.lasted < 200 * MS + 4 * RTT
    assert all(5 * SEC <= after.begin - before.end < 8 * SEC for before, after in pairwise(stays))


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.4.4")
def test_bbr06_5_3_4_4_probe_rtt_over_the_flow_cruises_with_its_window_back() -> None:
    for before, after in pairwise(played()):
        if before.state is PROBE_RTT:
            assert after.state is CRUISE
            assert after.cwnd > 1.5 * BDP


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.4.1")
def test_bbr06_5_4_1_restart_from_idle_keeps_the_window_and_sends_at_bw() -> None:
    c = Course("bbr", rtt=RTT, gap=GAP, queue=100, mss=MSS, buffer=200 * MSS)
    c.run(3 * SEC)
    c.bulk = False
    c.run(3 * SEC)
    window = c.cwnd
    c.left.clear()
    c.bulk = True
    c.run(RTT - MS)
    assert c.cwnd == window
    times = [when for when, _ in c.left]
    rate = sum(size for _, size in c.left[:-1]) * SEC / (times[-1] - times[0])
    assert rate == pytest.approx(RATE, rel=0.15)


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.6.1")
@pytest.mark.parametrize(
    ("state", "gain"), [(DRAIN, 0.5), (DOWN, 0.9), (CRUISE, 1.0), (REFILL, 1.0), (UP, 1.25), (PROBE_RTT, 1.0)]
)
def test_bbr06_5_6_1_state_paces_at_its_gain_less_one_percent(state: BbrState, gain: float) -> None:
    for stay in of(state):
        assert all(paced == pytest.approx(gain * 0.99, abs=0.011) for paced in stay.paced), stay.paced
