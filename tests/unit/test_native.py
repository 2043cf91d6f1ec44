"""What users may derive their own classes from, they may whether the core is compiled or not."""

import pytest

from usertcp.frame import Sink, Source
from usertcp.tcp.cc.base import AckSample, CongestionControl
from usertcp.tcp.cc.bbr import Bbr
from usertcp.tcp.cc.cubic import Cubic
from usertcp.tcp.cc.newreno import NewReno
from usertcp.tcp.trace import Tracer


@pytest.mark.parametrize("protocol", [Tracer, Sink, Source])
def test_protocol_may_be_named_as_a_base(protocol: type) -> None:
    assert protocol in type(type("Own", (protocol,), {})()).__mro__


@pytest.mark.parametrize("kind", [Bbr, Cubic, NewReno])
def test_algorithm_may_be_varied(kind: type[CongestionControl]) -> None:
    told: list[int] = []

    def on_ack(cc: CongestionControl, sample: AckSample) -> None:
        told.append(sample.acked)

    own = type("Own", (kind,), {"on_ack": on_ack, "name": "own"})(1448)
    core: CongestionControl = own
    core.on_ack(AckSample(0, acked=1448))
    assert told == [1448]
    assert core.cwnd == kind(1448).cwnd


def test_algorithm_may_be_written_anew() -> None:
    class Fixed(CongestionControl):
        name = "fixed"

        def on_ack(self, sample: AckSample) -> None:
            self.cwnd = 10 * self.mss

        def on_congestion(self, flight: int, now: int, *, ecn: bool = False) -> None:
            pass

        def on_rto(self, flight: int, now: int, *, reduced: bool) -> None:
            pass

        def on_recovered(self, now: int) -> None:
            pass

        def on_spurious(self) -> None:
            pass

    fixed = Fixed(1000)
    fixed.on_unused(0, 5000)  # inherited, and it calls what is not
    assert fixed.cwnd == 10_000
