"""NewReno by RFC 5681, with all that it shares with cubic, and the registry that gives it its name."""

import errno

import pytest

from usertcp.tcp.cc.base import UNLIMITED, AckSample, initial_window
from usertcp.tcp.cc.newreno import NewReno
from usertcp.tcp.cc.registry import NAMES, create
from usertcp.units import MS, SEC

MSS = 1460


def _avoiding(cwnd: int) -> NewReno:
    """In congestion avoidance with a window of ``cwnd``."""
    cc = NewReno(MSS)
    cc.cwnd = cc.ssthresh = cwnd
    return cc


def _ack(cc: NewReno, acked: int, flight: int, *, limited: bool = True) -> None:
    """An ACK for ``acked`` bytes while ``flight`` were in the network."""
    sample = AckSample(acked=acked, flight=flight, rtt=MS)
    sample.cwnd_limited = limited
    cc.on_ack(sample)


@pytest.mark.rfc(6928, "§2")
@pytest.mark.parametrize(("mss", "expected"), [(536, 5360), (1460, 14600), (1448, 14480), (4000, 14600), (8960, 17920)])
def test_initial_window_of_a_segment_size_is_ten_segments_or_14600_bytes(mss: int, expected: int) -> None:
    assert initial_window(mss) == NewReno(mss).cwnd == expected


@pytest.mark.rfc(5681, "§3.1 ssthresh")
def test_fresh_window_begins_in_slow_start() -> None:
    assert NewReno(MSS).ssthresh == UNLIMITED


def test_fresh_window_told_another_mss_starts_from_its_initial_window() -> None:
    cc = NewReno(1460)
    cc.mss = 536
    assert (cc.mss, cc.cwnd) == (536, 5360)


@pytest.mark.rfc(5681, "§3.1 MTU")
@pytest.mark.parametrize("name", NAMES)
def test_grown_window_told_a_smaller_mss_has_as_many_segments(name: str) -> None:
    cc = create(name, 1460)
    cc.cwnd = 16060
    cc.mss = 1000
    assert cc.cwnd == 11000
    cc.mss = 900
    cc.mss = 900
    assert cc.cwnd == 9900


@pytest.mark.rfc(5681, "§3.1 lost SYN")
def test_lost_syn_begins_with_one_segment() -> None:
    cc = NewReno(MSS)
    cc.on_syn_lost()
    assert (cc.cwnd, cc.ssthresh) == (MSS, UNLIMITED)


def test_time_out_after_a_lost_syn_ends_slow_start_early() -> None:
    cc = NewReno(MSS)
    cc.on_syn_lost()
    cc.on_rto(MSS, 0, reduced=False)
    assert (cc.cwnd, cc.ssthresh) == (MSS, 2 * MSS)


@pytest.mark.rfc(5681, "§3.1 slow start")
@pytest.mark.rfc(3465, "§2.2")
def test_slow_start_acknowledged_in_bursts_doubles_in_a_round_trip() -> None:
    cc = NewReno(MSS)
    _ack(cc, 8 * MSS, 10 * MSS)
    _ack(cc, 2 * MSS, 10 * MSS)
    assert cc.cwnd == 20 * MSS


def test_slow_start_reaching_ssthresh_goes_on_in_congestion_avoidance() -> None:
    cc = NewReno(MSS)
    cc.ssthresh = 11 * MSS
    _ack(cc, 10 * MSS, 10 * MSS)
    assert cc.cwnd == 11 * MSS  # nine segments' worth of credit
    _ack(cc, 2 * MSS, 10 * MSS)
    assert cc.cwnd == 12 * MSS


@pytest.mark.rfc(5681, "§3.1 avoidance")
def test_congestion_avoidance_grows_one_segment_a_round_trip() -> None:
    cc = _avoiding(20 * MSS)
    for _ in range(19):
        _ack(cc, MSS, 20 * MSS)
    assert cc.cwnd == 20 * MSS
    _ack(cc, MSS, 20 * MSS)
    assert cc.cwnd == 21 * MSS


def test_window_of_five_and_a_half_segments_grows_when_five_are_acknowledged() -> None:
    cc = _avoiding(5 * MSS + MSS // 2)
    for _ in range(4):
        _ack(cc, MSS, 5 * MSS)
    assert cc.cwnd == 5 * MSS + MSS // 2
    _ack(cc, MSS, 5 * MSS)
    assert cc.cwnd == 6 * MSS + MSS // 2


def test_window_hardly_used_does_not_grow() -> None:
    cc = NewReno(MSS)
    _ack(cc, MSS, 4 * MSS, limited=False)
    assert cc.cwnd == 10 * MSS
    avoiding = _avoiding(20 * MSS)
    for _ in range(100):
        _ack(avoiding, 9 * MSS, 9 * MSS, limited=False)
    assert avoiding.cwnd == 20 * MSS


@pytest.mark.rfc(5681, "§3.1 avoidance")
@pytest.mark.rfc(3465, "§2.1")
def test_congestion_avoidance_acknowledged_in_bursts_still_takes_steps_of_one_segment() -> None:
    cc = _avoiding(20 * MSS)
    _ack(cc, 15 * MSS, 20 * MSS)
    assert cc.cwnd == 20 * MSS
    _ack(cc, 15 * MSS, 20 * MSS)
    assert cc.cwnd == 21 * MSS
    _ack(cc, 11 * MSS, 21 * MSS)  # with the ten left of the ACK before
    assert cc.cwnd == 22 * MSS


@pytest.mark.rfc(5681, "§3.1 equation (4)")
@pytest.mark.rfc(5681, "§3.2")
def test_loss_halves_the_window() -> None:
    cc = _avoiding(20 * MSS)
    cc.on_congestion(18 * MSS, 0)  # two segments were SACKed before
    assert (cc.cwnd, cc.ssthresh) == (20 * MSS, 10 * MSS)  # how the window comes down is not its business
    cc.on_recovered(0)
    assert cc.cwnd == 10 * MSS


@pytest.mark.rfc(5681, "§3.1 equation (4)")
@pytest.mark.rfc(7661, "§4.4.1")
def test_loss_while_the_application_is_the_limit_halves_what_was_in_use() -> None:
    cc = _avoiding(40 * MSS)
    _ack(cc, MSS, 12 * MSS, limited=False)
    _ack(cc, MSS, 16 * MSS, limited=False)
    cc.on_congestion(4 * MSS, 0)
    assert cc.ssthresh == 8 * MSS
    again = _avoiding(40 * MSS)
    _ack(again, MSS, 16 * MSS, limited=False)
    _ack(again, MSS, 40 * MSS)  # in use again
    again.on_congestion(40 * MSS, 0)
    assert again.ssthresh == 20 * MSS


@pytest.mark.rfc(5681, "§3.1 equation (4)")
def test_loss_with_the_smallest_window_leaves_two_segments() -> None:
    cc = _avoiding(2 * MSS)
    cc.on_congestion(2 * MSS, 0)
    assert cc.ssthresh == 2 * MSS


@pytest.mark.rfc(8511, "§3.1")
def test_mark_in_congestion_avoidance_leaves_four_fifths() -> None:
    cc = _avoiding(20 * MSS)
    cc.on_congestion(20 * MSS, 0, ecn=True)
    assert cc.ssthresh == 16 * MSS


@pytest.mark.rfc(8511, "§3")
def test_mark_in_slow_start_counts_as_a_loss() -> None:
    cc = NewReno(MSS)
    cc.on_congestion(10 * MSS, 0, ecn=True)
    assert cc.ssthresh == 5 * MSS


@pytest.mark.rfc(5681, "§3.1 time-out")
def test_time_out_starts_over_from_one_segment() -> None:
    cc = _avoiding(20 * MSS)
    cc.on_rto(20 * MSS, 0, reduced=False)
    assert (cc.cwnd, cc.ssthresh) == (MSS, 10 * MSS)


@pytest.mark.rfc(5681, "§3.1 time-out")
def test_time_out_of_what_was_reduced_for_already_keeps_ssthresh() -> None:
    cc = _avoiding(20 * MSS)
    cc.on_rto(20 * MSS, 0, reduced=False)
    cc.on_rto(MSS, 0, reduced=True)
    assert (cc.cwnd, cc.ssthresh) == (MSS, 10 * MSS)
    _ack(cc, MSS, MSS)
    cc.on_rto(2 * MSS, 0, reduced=False)
    assert (cc.cwnd, cc.ssthresh) == (MSS, 2 * MSS)


@pytest.mark.rfc(5681, "§3.1 slow start")
@pytest.mark.rfc(3465, "§2.3")
def test_slow_start_after_a_time_out_does_not_count_what_had_arrived_before() -> None:
    cc = _avoiding(20 * MSS)
    cc.on_rto(20 * MSS, 0, reduced=False)
    _ack(cc, 15 * MSS, MSS)  # one segment was resent, and filled the hole before fourteen others
    assert cc.cwnd == 2 * MSS
    _ack(cc, 2 * MSS, 2 * MSS)
    assert cc.cwnd == 4 * MSS


def test_spurious_reduction_is_taken_back() -> None:
    cc = _avoiding(20 * MSS)
    cc.on_rto(20 * MSS, 0, reduced=False)
    cc.on_rto(MSS, 0, reduced=True)
    cc.on_spurious()
    assert cc.cwnd == cc.ssthresh == 20 * MSS


@pytest.mark.rfc(4015, "§3.2")
def test_spurious_reduction_while_the_window_is_larger_already_changes_nothing() -> None:
    cc = _avoiding(20 * MSS)
    cc.on_congestion(20 * MSS, 0)
    cc.on_recovered(0)
    cc.cwnd, cc.ssthresh = 30 * MSS, 25 * MSS
    cc.on_spurious()
    assert (cc.cwnd, cc.ssthresh) == (30 * MSS, 25 * MSS)


@pytest.mark.rfc(2861, "§3.1")
@pytest.mark.parametrize(("idle", "window"), [(250, 64), (399, 64), (400, 32), (600, 16), (800, 10), (60_000, 10)])
def test_idle_connection_halves_its_window_for_each_rto_down_to_the_initial_window(idle: int, window: int) -> None:
    cc = _avoiding(128 * MSS)
    cc.on_idle(idle * MS, 200 * MS, 0)
    assert (cc.cwnd, cc.ssthresh) == (window * MSS, 128 * MSS)


@pytest.mark.rfc(2861, "§3.1")
def test_idle_connection_remembers_three_quarters_of_its_window() -> None:
    cc = _avoiding(20 * MSS)
    cc.cwnd = 40 * MSS
    cc.on_idle(250 * MS, 200 * MS, 0)
    assert (cc.cwnd, cc.ssthresh) == (20 * MSS, 30 * MSS)


def test_idle_connection_with_a_small_window_keeps_it() -> None:
    cc = _avoiding(4 * MSS)
    cc.on_idle(SEC, 200 * MS, 0)
    assert cc.cwnd == 4 * MSS


def test_newreno_asked_to_pace_does_not() -> None:
    assert NewReno(MSS).pacing_rate(10 * MS) == 0


def test_registry_with_a_known_name_creates_the_algorithm() -> None:
    assert NAMES == ("reno", "cubic", "bbr")
    cc = create("reno", MSS)
    assert isinstance(cc, NewReno)
    assert cc.mss == MSS


def test_registry_without_sack_gives_cubic_in_place_of_a_model_of_the_path() -> None:
    assert create("bbr", MSS, sack=True).name == "bbr"
    assert create("bbr", MSS, sack=False).name == "cubic"
    assert create("reno", MSS, sack=False).name == "reno"


def test_registry_with_an_unknown_name_says_enoent() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        create("vegas", MSS)
    assert caught.value.errno == errno.ENOENT
