"""NewReno by RFC 5681, and the registry that gives it its name."""

import errno

import pytest

from usertcp.tcp.cc.base import UNLIMITED, initial_window
from usertcp.tcp.cc.newreno import NewReno
from usertcp.tcp.cc.registry import NAMES, create
from usertcp.units import MS

MSS = 1460


def _avoiding(cwnd: int) -> NewReno:
    """In congestion avoidance with a window of ``cwnd``."""
    cc = NewReno(MSS)
    cc.cwnd = cc.ssthresh = cwnd
    return cc


@pytest.mark.rfc(6928, "2")
@pytest.mark.parametrize(("mss", "expected"), [(536, 5360), (1460, 14600), (1448, 14480), (4000, 14600), (8960, 17920)])
def test_initial_window_of_a_segment_size_is_ten_segments_or_14600_bytes(mss: int, expected: int) -> None:
    assert initial_window(mss) == NewReno(mss).cwnd == expected


def test_fresh_window_begins_in_slow_start() -> None:
    assert NewReno(MSS).ssthresh == UNLIMITED


def test_fresh_window_told_another_mss_starts_from_its_initial_window() -> None:
    cc = NewReno(1460)
    cc.mss = 536
    assert (cc.mss, cc.cwnd) == (536, 5360)


def test_grown_window_told_another_mss_keeps_its_bytes() -> None:
    cc = NewReno(1460)
    cc.on_ack(1460, 14600, MS, 0)
    cc.mss = 1000
    assert cc.cwnd == 16060


@pytest.mark.rfc(5681, "3.1")
def test_lost_syn_begins_with_one_segment() -> None:
    cc = NewReno(MSS)
    cc.on_syn_lost()
    assert (cc.cwnd, cc.ssthresh) == (MSS, UNLIMITED)


def test_time_out_after_a_lost_syn_ends_slow_start_early() -> None:
    cc = NewReno(MSS)
    cc.on_syn_lost()
    cc.on_rto(MSS, 0)
    assert (cc.cwnd, cc.ssthresh) == (MSS, 2 * MSS)


@pytest.mark.rfc(3465, "2.2")
def test_slow_start_acknowledged_in_bursts_doubles_in_a_round_trip() -> None:
    cc = NewReno(MSS)
    cc.on_ack(8 * MSS, 10 * MSS, MS, 0)
    cc.on_ack(2 * MSS, 10 * MSS, MS, 0)
    assert cc.cwnd == 20 * MSS


def test_slow_start_reaching_ssthresh_goes_on_in_congestion_avoidance() -> None:
    cc = NewReno(MSS)
    cc.ssthresh = 11 * MSS
    cc.on_ack(10 * MSS, 10 * MSS, MS, 0)
    assert cc.cwnd == 11 * MSS  # nine segments' worth of credit
    cc.on_ack(2 * MSS, 10 * MSS, MS, 0)
    assert cc.cwnd == 12 * MSS


@pytest.mark.rfc(5681, "3.1")
def test_congestion_avoidance_grows_one_segment_a_round_trip() -> None:
    cc = _avoiding(20 * MSS)
    for _ in range(19):
        cc.on_ack(MSS, 20 * MSS, MS, 0)
    assert cc.cwnd == 20 * MSS
    cc.on_ack(MSS, 20 * MSS, MS, 0)
    assert cc.cwnd == 21 * MSS


def test_window_hardly_used_does_not_grow() -> None:
    cc = NewReno(MSS)
    cc.on_ack(MSS, 4 * MSS, MS, 0)
    assert cc.cwnd == 10 * MSS
    avoiding = _avoiding(20 * MSS)
    for _ in range(100):
        avoiding.on_ack(9 * MSS, 9 * MSS, MS, 0)
    assert avoiding.cwnd == 20 * MSS


@pytest.mark.rfc(5681, "3.2")
def test_loss_halves_what_was_in_flight() -> None:
    cc = _avoiding(20 * MSS)
    cc.on_congestion(16 * MSS, 0)
    assert cc.cwnd == cc.ssthresh == 8 * MSS
    cc.on_recovered(0)
    assert cc.cwnd == 8 * MSS


def test_loss_with_little_in_flight_leaves_two_segments() -> None:
    cc = NewReno(MSS)
    cc.on_congestion(MSS, 0)
    assert cc.cwnd == cc.ssthresh == 2 * MSS


@pytest.mark.rfc(5681, "3.1")
def test_time_out_starts_over_from_one_segment() -> None:
    cc = _avoiding(20 * MSS)
    cc.on_rto(20 * MSS, 0)
    assert (cc.cwnd, cc.ssthresh) == (MSS, 10 * MSS)


@pytest.mark.rfc(5681, "3.1")
def test_time_out_of_a_segment_already_resent_keeps_ssthresh() -> None:
    cc = _avoiding(20 * MSS)
    cc.on_rto(20 * MSS, 0)
    cc.on_rto(MSS, 0)
    assert (cc.cwnd, cc.ssthresh) == (MSS, 10 * MSS)
    cc.on_ack(MSS, MSS, MS, 0)
    cc.on_rto(2 * MSS, 0)
    assert (cc.cwnd, cc.ssthresh) == (MSS, 2 * MSS)


@pytest.mark.rfc(3465, "2.3")
def test_slow_start_after_a_time_out_does_not_count_what_had_arrived_before() -> None:
    cc = _avoiding(20 * MSS)
    cc.on_rto(20 * MSS, 0)
    cc.on_ack(15 * MSS, MSS, MS, 0)  # one segment was resent, and filled the hole before fourteen others
    assert cc.cwnd == 2 * MSS
    cc.on_ack(2 * MSS, 2 * MSS, MS, 0)
    assert cc.cwnd == 4 * MSS


def test_spurious_reduction_is_taken_back() -> None:
    cc = _avoiding(20 * MSS)
    cc.on_rto(20 * MSS, 0)
    cc.on_rto(MSS, 0)
    cc.on_spurious()
    assert cc.cwnd == cc.ssthresh == 20 * MSS


@pytest.mark.rfc(5681, "4.1")
def test_idle_connection_restarts_from_the_initial_window_at_most() -> None:
    cc = _avoiding(40 * MSS)
    cc.on_idle(500 * MS)
    assert (cc.cwnd, cc.ssthresh) == (10 * MSS, 40 * MSS)
    small = _avoiding(4 * MSS)
    small.on_idle(500 * MS)
    assert small.cwnd == 4 * MSS


def test_newreno_asked_to_pace_does_not() -> None:
    assert NewReno(MSS).pacing_rate(10 * MS) == 0


def test_registry_with_a_known_name_creates_the_algorithm() -> None:
    assert NAMES == ("reno",)
    cc = create("reno", MSS)
    assert isinstance(cc, NewReno)
    assert cc.mss == MSS


def test_registry_with_an_unknown_name_says_enoent() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        create("vegas", MSS)
    assert caught.value.errno == errno.ENOENT
