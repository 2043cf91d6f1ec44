"""Transfers over wires that lose, reorder, duplicate and corrupt, checked by hash."""

from collections.abc import Sequence

import pytest

from tests.sim.flows import both_ways, two_hosts
from usertcp.link.middleware import Corrupt, Delay, Drop, Duplicate, Reorder, Rule
from usertcp.tcp.config import TcpConfig
from usertcp.units import HOUR, KIB, MS

WIRES: dict[str, Sequence[Rule]] = {
    "loss": [Drop(probability=0.05)],
    "loss out only": [Drop(probability=0.05, direction="out")],
    "loss in only": [Drop(probability=0.05, direction="in")],
    "reorder": [Reorder(probability=0.05)],
    "duplicate": [Duplicate(probability=0.05)],
    "corrupt": [Corrupt(probability=0.02)],
    "jitter": [Delay(by=5 * MS, jitter=10 * MS)],
    "all": [
        Drop(probability=0.05),
        Reorder(probability=0.05),
        Duplicate(probability=0.05),
        Corrupt(probability=0.01),
    ],
}


@pytest.mark.parametrize("name", WIRES)
def test_bad_wire_transfer_both_ways_arrives_intact(name: str) -> None:
    world, a, b = two_hosts(11, delay=5 * MS, rules=WIRES[name])
    both_ways(world, a, b, 300_000)


@pytest.mark.parametrize("seed", range(10))
def test_loss_reordering_and_duplication_with_any_seed_arrives_intact(seed: int) -> None:
    world, a, b = two_hosts(seed, delay=2 * MS, rules=WIRES["all"])
    both_ways(world, a, b, 100_000)
    world.run(world.now + HOUR)
    assert not [*a.stack.connections(), *b.stack.connections()]


@pytest.mark.parametrize("seed", range(3))
def test_bad_wire_without_options_and_with_small_buffers_arrives_intact(seed: int) -> None:
    config = TcpConfig(
        timestamps=False,
        sack=False,
        window_scaling=False,
        receive_buffer=8 * KIB,
        receive_buffer_max=0,
        send_buffer=8 * KIB,
        send_buffer_max=0,
        nodelay=True,
    )
    world, a, b = two_hosts(seed, delay=2 * MS, rules=WIRES["all"], config=config)
    both_ways(world, a, b, 60_000)
