"""BBR's probing for bandwidth: when and how far (draft-ietf-ccwg-bbr-06 §5.3.3)."""

import pytest

from usertcp.tcp.cc.bbr_bounds import Bounds
from usertcp.tcp.cc.bbr_probe import AckPhase, Probe, spread
from usertcp.units import MS, SEC

MSS = 1448


def test_spread_of_neighbouring_seeds_has_nothing_in_common() -> None:
    values = [spread(n) for n in range(10_000)]
    assert len(set(values)) == len(values)
    for bit in range(64):
        assert 4_700 < sum(value >> bit & 1 for value in values) < 5_300


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.3.8")
def test_wait_for_the_next_probe_is_spread_between_two_and_three_seconds() -> None:
    waits = []
    for n in range(200):
        probe = Probe()
        now = n * 7_919_000
        probe.stop(0, now)
        wait = 0
        while not probe.is_due(1000, now + wait):
            wait += 10 * MS
        waits.append(wait)
    assert 2 * SEC <= min(waits) < 2.1 * SEC
    assert 2.9 * SEC < max(waits) <= 3 * SEC + 10 * MS
    assert 2.4 * SEC < sum(waits) / len(waits) < 2.6 * SEC


def test_same_history_waits_equally_long() -> None:
    waits = []
    for _ in range(2):
        probe = Probe()
        probe.stop(123_456, 5 * SEC)
        waits.append((probe.rounds, probe._wait))
    assert waits[0] == waits[1]


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.3.8")
def test_probe_of_a_small_window_is_due_when_reno_would_have_grown_by_as_much() -> None:
    """As many round trips as segments in flight."""
    probe = Probe()
    probe.stop(0, 0)
    probe.rounds = 19
    assert not probe.is_due(20, MS)
    probe.rounds = 20
    assert probe.is_due(20, MS)


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.3.8")
def test_probe_of_a_large_window_is_due_after_63_round_trips() -> None:
    probe = Probe()
    probe.stop(0, 0)
    probe.rounds = 62
    assert not probe.is_due(5000, MS)
    probe.rounds = 63
    assert probe.is_due(5000, MS)


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.3.5")
def test_bound_that_a_probe_presses_against_rises_twice_as_fast_each_round() -> None:
    """By 1, 2, 4, 8 segments a round trip."""
    probe, bounds = Probe(), Bounds()
    cwnd = 64 * MSS
    bounds.inflight_longterm = cwnd
    probe.refill()
    probe.start(cwnd, MSS)
    growth = []
    for _ in range(5):
        before = bounds.inflight_longterm
        for n in range(64):
            probe.raise_bound(bounds, MSS, cwnd, MSS, round_start=n == 63)
        growth.append((bounds.inflight_longterm - before) // MSS)
    assert growth == [1, 2, 4, 8, 16]


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.3.9")
def test_bound_outside_a_probe_does_not_rise() -> None:
    probe, bounds = Probe(), Bounds()
    bounds.inflight_longterm = 64 * MSS
    probe.stop(0, 0)
    probe.raise_bound(bounds, 1 << 30, 64 * MSS, MSS, round_start=False)
    assert bounds.inflight_longterm == 64 * MSS


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§5.3.3.9")
def test_probe_through_its_phases_tells_what_acks_mean() -> None:
    probe = Probe()
    phases = [probe.ack_phase]
    probe.refill()
    phases.append(probe.ack_phase)
    probe.start(64 * MSS, MSS)
    phases.append(probe.ack_phase)
    assert probe.sampling
    probe.stop(0, 0)
    phases.append(probe.ack_phase)
    assert phases == [AckPhase.INIT, AckPhase.REFILLING, AckPhase.STARTING, AckPhase.STOPPING]
