"""RFC 6298, its formulas and its limits."""

import pytest

from usertcp.tcp.rtt import RttEstimator
from usertcp.units import MS, SEC


def _estimator(min_rto: int = 200 * MS, max_rto: int = 120 * SEC) -> RttEstimator:
    return RttEstimator(1 * SEC, min_rto, max_rto)


@pytest.mark.rfc(6298, "§2.1")
def test_estimator_without_a_sample_waits_the_initial_rto() -> None:
    fresh = _estimator()
    assert (fresh.rto, fresh.srtt, fresh.rttvar, fresh.min_rtt, fresh.backoffs) == (1 * SEC, 0, 0, 0, 0)


@pytest.mark.rfc(6298, "§2.2")
def test_first_sample_sets_srtt_and_half_of_it_as_deviation() -> None:
    rtt = _estimator()
    rtt.sample(300 * MS, 300 * MS)
    assert (rtt.srtt, rtt.rttvar, rtt.rto) == (300 * MS, 150 * MS, 900 * MS)


@pytest.mark.rfc(6298, "§2.3")
def test_next_sample_moves_the_deviation_by_the_old_srtt_then_srtt() -> None:
    rtt = _estimator()
    rtt.sample(400 * MS, 400 * MS)
    rtt.sample(480 * MS, 480 * MS)
    assert rtt.rttvar == 200 * MS * 3 // 4 + 80 * MS // 4
    assert rtt.srtt == 400 * MS * 7 // 8 + 480 * MS // 8
    assert rtt.rto == rtt.srtt + 4 * rtt.rttvar


def test_steady_samples_bring_the_rto_to_the_least_margin_above_srtt() -> None:
    rtt = _estimator(min_rto=10 * MS)
    for _ in range(200):
        rtt.sample(50 * MS, 50 * MS)
    assert rtt.srtt == 50 * MS
    assert rtt.rto == 60 * MS


@pytest.mark.rfc(6298, "§4")
@pytest.mark.rfc(6298, "§2.4")
def test_short_samples_leave_the_rto_the_least_margin_above_srtt() -> None:
    rtt = _estimator()
    rtt.sample(100_000, 100_000)
    assert rtt.rto == 200 * MS + 100_000


@pytest.mark.rfc(6298, "§2.5")
def test_long_samples_leave_the_rto_at_the_maximum() -> None:
    rtt = _estimator(max_rto=60 * SEC)
    rtt.sample(50 * SEC, 50 * SEC)
    assert rtt.rto == 60 * SEC


def test_sample_of_no_time_at_all_counts_as_one() -> None:
    rtt = _estimator()
    rtt.sample(0, 0)
    rtt.sample(0, 0)
    assert (rtt.srtt, rtt.min_rtt) == (1, 1)


@pytest.mark.rfc(8985, "§6.2 step 1")
def test_min_rtt_is_the_least_of_the_samples_without_the_peers_delay() -> None:
    rtt = _estimator()
    for sample in (30, 10, 20):
        rtt.sample(sample * MS, (sample - 1) * MS)
    assert rtt.min_rtt == 9 * MS


def test_sample_without_the_peers_delay_leaves_srtt_to_the_whole() -> None:
    rtt = _estimator()
    rtt.sample(240 * MS, 40 * MS)  # the peer held its ACK back for 200 ms: the time-out must allow for that
    assert (rtt.srtt, rtt.min_rtt, rtt.rto) == (240 * MS, 40 * MS, 720 * MS)


@pytest.mark.rfc(6298, "§5.5")
def test_time_outs_double_the_rto_up_to_the_maximum() -> None:
    rtt = _estimator(max_rto=10 * SEC)
    seen = []
    for _ in range(5):
        rtt.backoff()
        seen.append(rtt.rto // SEC)
    assert seen == [2, 4, 8, 10, 10]
    assert rtt.backoffs == 5


def test_backoff_reset_computes_the_rto_from_the_estimate() -> None:
    rtt = _estimator()
    rtt.sample(300 * MS, 300 * MS)
    rtt.backoff()
    rtt.backoff()
    assert rtt.rto == 3600 * MS
    rtt.reset_backoff()
    assert (rtt.rto, rtt.backoffs) == (900 * MS, 0)


def test_backoff_reset_without_an_estimate_gives_the_initial_rto() -> None:
    rtt = _estimator()
    rtt.backoff()
    rtt.reset_backoff()
    assert (rtt.rto, rtt.backoffs) == (1 * SEC, 0)


def test_sample_after_a_backoff_ends_it() -> None:
    rtt = _estimator()
    rtt.backoff()
    rtt.sample(300 * MS, 300 * MS)
    assert (rtt.rto, rtt.backoffs) == (900 * MS, 0)


@pytest.mark.rfc(6298, "§5.7")
def test_lost_syn_without_a_sample_begins_data_with_three_seconds() -> None:
    rtt = _estimator()
    rtt.backoff()
    rtt.syn_was_lost()
    assert (rtt.rto, rtt.backoffs) == (3 * SEC, 0)
    rtt.sample(300 * MS, 300 * MS)
    assert rtt.rto == 900 * MS
