"""Whatever a congestion control is told, and in whatever order: it keeps to its own promises."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertcp.tcp.cc.base import AckSample, CongestionControl
from usertcp.tcp.cc.registry import NAMES, create
from usertcp.units import SEC

_bytes = st.integers(0, 1 << 24)
_flag = st.booleans()
_rtt = st.one_of(st.just(-1), st.integers(1, 2 * SEC))
_event = st.one_of(
    st.tuples(st.just("ack"), st.tuples(_bytes, _bytes, _bytes, _rtt, st.integers(0, 1 << 32), _flag, _flag, _flag)),
    st.tuples(st.just("lost"), st.tuples(_bytes, _bytes, _bytes, _flag)),
    st.tuples(st.just("congestion"), st.tuples(_bytes, _flag)),
    st.tuples(st.just("rto"), st.tuples(_bytes, _flag)),
    st.tuples(st.just("recovered"), st.just(())),
    st.tuples(st.just("spurious"), st.just(())),
    st.tuples(st.just("idle"), st.tuples(st.integers(1, 100 * SEC), st.integers(1, 10 * SEC))),
    st.tuples(st.just("send"), st.tuples(_bytes, _flag)),
    st.tuples(st.just("mss"), st.tuples(st.integers(48, 9000))),
    st.tuples(st.just("wait"), st.tuples(st.integers(0, 20 * SEC))),
)


class Told:
    """An algorithm, and what the sender keeps for it: the clock, what was delivered, the smoothed RTT."""

    def __init__(self, cc: CongestionControl) -> None:
        self.cc = cc
        self.now = SEC
        self.delivered = 0
        self.sample = AckSample()

    def ack(
        self, acked: int, flight: int, back: int, rtt: int, rate: int, limited: bool, user: bool, mending: bool
    ) -> None:
        sample = self.sample
        self.delivered += acked
        sample.now, sample.acked, sample.flight, sample.rtt = self.now, acked, flight, rtt
        sample.pipe = max(0, flight - acked)
        if rtt > 0:
            sample.srtt = (7 * (sample.srtt or rtt) + rtt) // 8
            sample.min_rtt = min(sample.min_rtt or rtt, rtt)
        sample.delivered, sample.prior_delivered = self.delivered, max(0, self.delivered - acked - back)
        sample.rate, sample.interval = rate, 1
        sample.tx_in_flight, sample.lost_since = flight, back // 16
        sample.cwnd_limited, sample.app_limited, sample.in_recovery = limited, user, mending
        self.cc.on_ack(sample)

    def lost(self, size: int, in_flight: int, before: int, user: bool) -> None:
        self.cc.on_lost(size, in_flight + size, before + size, user, self.now)

    def congestion(self, flight: int, ecn: bool) -> None:
        self.cc.on_congestion(flight, self.now, ecn=ecn)

    def rto(self, flight: int, reduced: bool) -> None:
        self.cc.on_rto(flight, self.now, reduced=reduced)

    def recovered(self) -> None:
        self.cc.on_recovered(self.now)

    def spurious(self) -> None:
        self.cc.on_spurious()

    def idle(self, idle: int, rto: int) -> None:
        self.now += idle
        self.cc.on_idle(idle, rto, self.now)

    def send(self, flight: int, user: bool) -> None:
        self.cc.on_send(self.now, app_limited=user, flight=flight)

    def mss(self, mss: int) -> None:
        self.cc.mss = mss

    def wait(self, time: int) -> None:
        self.now += time


@pytest.mark.parametrize("name", NAMES)
@given(events=st.lists(_event, max_size=60))
def test_congestion_control_told_anything_keeps_a_window_of_a_segment(
    name: str, events: list[tuple[str, tuple[Any, ...]]]
) -> None:
    told = Told(create(name, 1448))
    cc = told.cc
    for what, words in events:
        before = cc.cwnd
        getattr(told, what)(*words)
        assert cc.cwnd >= cc.mss
        assert cc.ssthresh >= 2 * 48
        assert cc.pacing_rate(told.sample.srtt) >= 0
        if what in ("congestion", "lost", "wait", "send"):
            assert cc.cwnd == before  # that is PRR's, or the next ACK's
