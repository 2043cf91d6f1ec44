"""What a wire of the simulated network does to the frames of real stacks: queues, losses, two unlike directions."""

import hashlib

import pytest

from tests.sim.flows import PORT, End, Server, both_ways, payload, transfer
from usertcp.driver.sim import SimHost, Wire, World
from usertcp.link.loss import GilbertElliott, Outage, RandomLoss
from usertcp.link.path import PathConfig, Reorder
from usertcp.link.queue import DropTail
from usertcp.link.queue_codel import CoDel
from usertcp.link.queue_red import Red
from usertcp.units import KIB, MIB, MS, SEC

RATE = 8_000_000  # a megabyte a second


def pair(wire: Wire, seed: int = 1, near: Wire | None = None) -> tuple[World, SimHost, SimHost]:
    """A sender a on an ordinary wire and a receiver b at the end of ``wire``."""
    world = World(seed)
    a = world.host("a", "10.0.0.1/24", wire=near or Wire(delay=10 * MS))
    return world, a, world.host("b", "10.0.0.2/24", wire=wire)


def fetch(world: World, a: SimHost, b: SimHost, size: int) -> int:
    """Send ``size`` bytes from a to b, checked by hash; how long it took, ns."""
    server = Server(b.listen(PORT), End)
    data = payload(size)
    transfer(a, server, b, data)
    assert world.run_until(lambda: bool(server.ends) and server.ends[0].ended, 600 * SEC)
    assert server.ends[0].digest == hashlib.sha256(data).digest()
    return world.now


@pytest.mark.parametrize("queue", [DropTail(30_000), CoDel(), Red(8_000, 24_000, limit=60_000)])
def test_narrow_wire_with_any_discipline_overflows_and_heals(queue: DropTail | CoDel | Red) -> None:
    world, a, b = pair(Wire(rate=RATE, queue=queue))
    took = fetch(world, a, b, 2_000_000)
    assert b.down.drops > 0
    assert took < 4 * SEC


def test_codel_keeps_the_delay_down_where_a_deep_queue_lets_it_stand() -> None:
    def standing(queue: DropTail | CoDel) -> float:
        world, a, b = pair(Wire(rate=RATE, queue=queue))
        fetch(world, a, b, 8_000_000)
        return b.down.delay_sum / b.down.sent

    assert standing(CoDel()) < 30 * MS < 60 * MS < standing(DropTail(200_000))


@pytest.mark.parametrize("loss", [RandomLoss(0.02), GilbertElliott(0.02, 4), Outage(300 * MS, 100 * MS)])
def test_lossy_wire_transfer_both_ways_arrives_intact(loss: RandomLoss | GilbertElliott | Outage) -> None:
    world, a, b = pair(Wire(rate=RATE, loss=loss))
    both_ways(world, a, b, 1_000_000)
    assert b.down.lost + b.up.lost > 0


def test_reordering_wire_transfer_both_ways_arrives_intact() -> None:
    world, a, b = pair(Wire(rate=RATE, reorder=Reorder(0.05, 10 * MS)))
    both_ways(world, a, b, 500_000)
    assert b.down.late > 0
    assert b.up.late > 0


def test_unlike_directions_each_has_its_own_rules() -> None:
    world, a, b = pair(Wire(down=PathConfig(rate=RATE), up=PathConfig(delay=30 * MS, loss=RandomLoss(0.2))))
    fetch(world, a, b, 500_000)
    assert b.up.lost > 0
    assert b.down.lost == 0
    assert b.down.sent_bytes > 500_000
    assert not b.down.drops


def test_splitting_wire_takes_super_segments_apart_and_the_rest_as_it_is() -> None:
    sizes: list[int] = []
    for split in (False, True):
        wire = Wire(rate=RATE, queue=4 * MIB, offload=True, split=split)
        world, a, b = pair(wire, near=Wire(delay=10 * MS, offload=True))
        took = fetch(world, a, b, 1_000_000)
        sizes.append(b.down.sent)
        assert 1.02 * SEC < took < 1.3 * SEC  # a super-segment takes the time of its frames, whole or not
        assert b.down.sent_bytes > 1_000_000 * 1514 / 1448
    whole, apart = sizes
    assert whole < 300
    assert apart > 1_000_000 / 1448


def test_shared_bottleneck_divides_its_rate_among_flows_of_several_hosts() -> None:
    world = World(4)
    server = world.host("server", "10.0.0.100/24", wire=Wire(rate=RATE, queue=60 * KIB, offload=True, split=True))
    accept = Server(server.listen(PORT), End)
    for n in range(4):
        wire = Wire(delay=(5 + n) * MS, offload=True)
        transfer(world.host(f"h{n}", f"10.0.0.{n + 1}/24", wire=wire), accept, server, payload(500_000, n))
    assert world.run_until(lambda: len(accept.ends) == 4 and all(end.ended for end in accept.ends), 60 * SEC)
    assert server.down.drops > 0
    assert 2 * SEC < world.now < 6 * SEC
