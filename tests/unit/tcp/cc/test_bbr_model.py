"""BBR's measurements (draft-ietf-ccwg-bbr-06 §5.5): rounds, bandwidth, round trip, aggregation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertcp.tcp.cc.base import AckSample
from usertcp.tcp.cc.bbr_model import PathModel, WindowedMax
from usertcp.units import MS, NEVER, SEC

MB = 1_000_000


def _sample(
    now: int = 0, *, rate: int = 0, delivered: int = 0, prior: int = 0, rtt: int = -1, acked: int = 0
) -> AckSample:
    sample = AckSample(now, acked=acked, rtt=rtt)
    sample.rate = rate
    sample.delivered, sample.prior_delivered = delivered, prior
    return sample


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.5")
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=60), st.integers(1, 10))
def test_windowed_max_of_any_values_is_the_largest_in_the_window(steps: list[tuple[int, int]], window: int) -> None:
    filtered = WindowedMax()
    seen: list[tuple[int, int]] = []
    now = 0
    for step, value in steps:
        now += step
        seen.append((now, value))
        assert filtered.update(value, now, window) == max(v for at, v in seen if at > now - window)


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.1")
def test_round_ends_with_the_first_delivery_of_what_was_sent_in_it() -> None:
    model = PathModel()
    starts = []
    for delivered, prior in [(10, 0), (20, 0), (30, 9), (40, 10), (50, 10), (60, 40)]:
        model.update_round(_sample(delivered=delivered, prior=prior))
        starts.append(model.round_start)
    assert starts == [True, False, False, True, False, True]
    assert model.round_count == 3


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.6")
def test_max_bw_is_the_largest_rate_of_this_cycle_and_the_last() -> None:
    model = PathModel()
    seen = []
    for rate in (10 * MB, 8 * MB):
        model.update_max_bw(_sample(rate=rate), False)
        seen.append(model.max_bw)
    model.advance_max_bw_filter()
    model.update_max_bw(_sample(rate=6 * MB), False)
    seen.append(model.max_bw)
    model.advance_max_bw_filter()
    seen.append(model.max_bw)
    assert seen == [10 * MB, 10 * MB, 10 * MB, 6 * MB]


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.6")
def test_max_bw_after_a_cycle_without_samples_keeps_the_last() -> None:
    model = PathModel()
    model.update_max_bw(_sample(rate=10 * MB), False)
    for _ in range(5):
        model.advance_max_bw_filter()
    assert model.max_bw == 10 * MB


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.4")
def test_rate_that_the_application_limited_counts_only_upwards() -> None:
    model = PathModel()
    model.update_max_bw(_sample(rate=10 * MB), False)
    model.advance_max_bw_filter()
    model.update_max_bw(_sample(rate=4 * MB), True)
    model.advance_max_bw_filter()
    assert model.max_bw == 10 * MB
    model.update_max_bw(_sample(rate=12 * MB), True)
    assert model.max_bw == 12 * MB


def _rounds(model: PathModel, rates: list[int], app_limited: bool = False) -> None:
    model.round_start = True
    for rate in rates:
        model.check_full_bw_reached(_sample(rate=rate * MB), app_limited)


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.1.2")
def test_pipe_after_three_rounds_without_a_quarter_more_is_full() -> None:
    model = PathModel()
    _rounds(model, [10, 12, 12])
    assert not model.full_bw_now
    _rounds(model, [12])
    assert model.full_bw_now
    assert model.full_bw_reached


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.1.2")
def test_pipe_with_a_quarter_more_in_the_third_round_is_not_full() -> None:
    model = PathModel()
    _rounds(model, [8, 9, 9, 10, 10, 10])
    assert not model.full_bw_now
    _rounds(model, [10])
    assert model.full_bw_now


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.1.2")
def test_pipe_while_the_application_is_the_limit_is_not_judged() -> None:
    model = PathModel()
    _rounds(model, [10] * 20, app_limited=True)
    assert not model.full_bw_now


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.1.2")
def test_pipe_found_full_once_and_looked_at_again_stays_reached() -> None:
    model = PathModel()
    _rounds(model, [10] * 4)
    model.reset_full_bw(10 * MB)
    assert (model.full_bw_now, model.full_bw_reached) == (False, True)
    _rounds(model, [10] * 3)
    assert model.full_bw_now


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.7.2")
def test_min_rtt_is_the_shortest_of_ten_seconds() -> None:
    model = PathModel()
    assert model.min_rtt == NEVER
    seen = []
    for at, rtt in [(0, 50), (1, 40), (2, 60), (7, 70), (9, 80), (12, 75), (17, 90), (23, 95)]:
        model.update_min_rtt(_sample(100 * SEC + at * SEC, rtt=rtt * MS))
        seen.append(model.min_rtt // MS)
    # At 7 s the 40 ms are six seconds old: probe_rtt_min_delay becomes 70 ms, and at 12 s min_rtt follows.
    assert seen == [50, 40, 40, 40, 40, 70, 70, 95]


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.4.3")
@pytest.mark.parametrize(("silence", "expired"), [(5, False), (6, True)])
def test_min_rtt_not_seen_for_more_than_five_seconds_makes_probe_rtt_due(silence: int, expired: bool) -> None:
    model = PathModel()
    model.update_min_rtt(_sample(100 * SEC, rtt=50 * MS))
    model.update_min_rtt(_sample((100 + silence) * SEC, rtt=60 * MS))
    assert model.probe_rtt_expired is expired


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.4.3")
def test_first_round_trip_long_after_the_clock_began_makes_nothing_due() -> None:
    model = PathModel()
    model.update_min_rtt(_sample(1000 * SEC))
    assert not model.probe_rtt_expired
    model.update_min_rtt(_sample(1010 * SEC, rtt=50 * MS))
    assert not model.probe_rtt_expired
    assert model.min_rtt == 50 * MS


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.6.4.2")
def test_bdp_is_bandwidth_times_min_rtt() -> None:
    model = PathModel()
    model.update_min_rtt(_sample(rtt=50 * MS))
    assert model.bdp(10 * MB) == 500_000


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.9")
def test_acks_at_the_expected_rate_show_no_aggregation() -> None:
    model = PathModel()
    model.bw = 10 * MB
    for n in range(1, 50):
        model.update_aggregation(_sample(n * MS, acked=10_000), 10 * MB)
    assert model.extra_acked <= 10_000  # the ACK at hand


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.9")
def test_acks_in_bunches_show_the_bunch_as_extra() -> None:
    """100 KB in a moment, then 10 ms of silence, at 10 MB/s."""
    model = PathModel()
    model.bw = 10 * MB
    model.full_bw_reached = True
    for n in range(5):
        for _ in range(10):
            model.update_aggregation(_sample(n * 10 * MS, acked=10_000), 10 * MB)
    assert model.extra_acked == 100_000
    model.round_count += 10
    model.update_aggregation(_sample(60 * MS, acked=5_000), 10 * MB)
    assert model.extra_acked == 5_000  # ten rounds later it is forgotten


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.5.9")
def test_aggregation_larger_than_the_window_counts_no_more_than_that() -> None:
    model = PathModel()
    model.bw = MB
    model.update_aggregation(_sample(0, acked=90_000), 50_000)
    assert model.extra_acked == 50_000


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.4.1")
def test_aggregation_after_a_restart_expects_nothing_of_the_pause() -> None:
    model = PathModel()
    model.bw = 10 * MB
    model.full_bw_reached = True
    model.update_aggregation(_sample(0, acked=10_000), MB)
    model.restart_aggregation(10 * SEC)
    model.update_aggregation(_sample(10 * SEC + MS, acked=15_000), MB)
    assert model.extra_acked == 15_000  # 25,000 since, less 10,000 expected in the millisecond
