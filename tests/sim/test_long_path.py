"""A gigabit over 100 ms: 12.5 MB have to be in flight, and nobody has set an option."""

import pytest

from usertcp.lab.congestion import Bottleneck, Experiment, Flow
from usertcp.units import MS, SEC

GIGABIT = Bottleneck(rate=10**9, rtt=100 * MS, split=False)


@pytest.mark.parametrize("name", ["reno", "cubic", "bbr"])
def test_gigabit_over_100_ms_one_connection_with_default_settings_fills_nine_tenths(name: str) -> None:
    """After slow start has overrun the queue, of one bandwidth-delay product, and what it lost is mended."""
    outcome = Experiment(GIGABIT, [Flow(name)], settle=3 * SEC).run(5 * SEC)
    assert outcome.goodput >= 0.9 * GIGABIT.rate
