"""Pacing: how much goes at a time, and when the next may."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from usertcp.tcp.pacing import CATCH_UP, MIN_SEGMENTS, QUANTUM, Pacer
from usertcp.units import MS, SEC

PAYLOAD: Final = 1000
LIMIT: Final = 64_000


def _pacer(rate: int) -> Pacer:
    pacer = Pacer()
    pacer.rate = rate
    return pacer


def test_pacer_without_a_rate_takes_whole_bursts_at_once() -> None:
    pacer = _pacer(0)
    assert pacer.burst(LIMIT, PAYLOAD) == LIMIT
    pacer.on_sent(LIMIT, 5 * MS)
    assert pacer.free_at == 0


def test_burst_is_what_the_rate_takes_in_a_quantum() -> None:
    assert _pacer(10_000_000).burst(LIMIT, PAYLOAD) == 10_000_000 * QUANTUM // SEC == 10_000


def test_burst_of_a_slow_connection_is_two_segments() -> None:
    assert _pacer(1000).burst(LIMIT, PAYLOAD) == MIN_SEGMENTS * PAYLOAD == 2000


def test_burst_of_a_fast_connection_is_as_large_as_the_device_takes() -> None:
    assert _pacer(10**9).burst(LIMIT, PAYLOAD) == LIMIT


def test_burst_where_one_segment_is_all_the_device_takes_is_that() -> None:
    assert _pacer(1000).burst(PAYLOAD, PAYLOAD) == PAYLOAD


def test_sent_burst_occupies_the_line_for_its_time() -> None:
    pacer = _pacer(1_000_000)
    pacer.free_at = 50 * MS
    pacer.on_sent(5000, 50 * MS)
    assert pacer.free_at == 55 * MS
    pacer.on_sent(2000, 55 * MS)
    assert pacer.free_at == 57 * MS


def test_driver_that_wakes_late_catches_up() -> None:
    pacer = _pacer(1_000_000)
    pacer.free_at = 50 * MS
    pacer.on_sent(5000, 51 * MS)
    assert pacer.free_at == 55 * MS


def test_driver_that_wakes_very_late_catches_up_a_little() -> None:
    pacer = _pacer(1_000_000)
    pacer.free_at = 50 * MS
    pacer.on_sent(5000, 900 * MS)
    assert pacer.free_at == 905 * MS - CATCH_UP


def test_changed_rate_holds_for_what_is_sent_next() -> None:
    pacer = _pacer(1_000_000)
    pacer.free_at = 50 * MS
    pacer.on_sent(1000, 50 * MS)
    pacer.rate = 2_000_000
    pacer.on_sent(1000, 51 * MS)
    assert pacer.free_at == 51 * MS + MS // 2


@given(
    rate=st.integers(1000, 10**9),
    steps=st.lists(st.tuples(st.integers(0, 20 * MS), st.integers(1, LIMIT)), min_size=1, max_size=100),
)
def test_any_sender_that_waits_its_turn_keeps_to_the_rate(rate: int, steps: list[tuple[int, int]]) -> None:
    """Whatever the lateness of each turn and the want of the user: over any stretch of time no more leaves than the
    rate gives, one burst and what may be caught up."""
    pacer = _pacer(rate)
    now, sent = SEC, []
    for late, wanted in steps:
        now = max(now, pacer.free_at) + late
        size = min(wanted, pacer.burst(LIMIT, PAYLOAD))
        pacer.on_sent(size, now)
        sent.append((now, size))
    for i in range(len(sent)):
        total = 0
        for at, size in sent[i:]:
            total += size
            rounding = len(sent) * rate // SEC + 1
            assert total - size <= (at - sent[i][0] + CATCH_UP) * rate // SEC + rounding


@given(rate=st.integers(100_000, 10**9), late=st.lists(st.integers(0, CATCH_UP - MS), min_size=50, max_size=50))
def test_any_sender_whose_driver_is_a_little_late_still_reaches_the_rate(rate: int, late: list[int]) -> None:
    pacer = _pacer(rate)
    pacer.free_at = start = SEC
    total = 0
    for lateness in late:
        now = pacer.free_at + lateness
        size = pacer.burst(LIMIT, PAYLOAD)
        pacer.on_sent(size, now)
        total += size
    assert pacer.free_at - start <= total * SEC // rate
