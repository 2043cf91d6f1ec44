"""A bottleneck that marks instead of dropping: the sender yields, and nothing is sent twice."""

import hashlib
from dataclasses import dataclass, replace

import pytest

from tests.sim.flows import PORT, End, Server, payload, transfer
from usertcp.driver.sim import SimHost, Wire, World
from usertcp.link.path import Discipline, PathConfig
from usertcp.link.queue_codel import CoDel
from usertcp.link.queue_red import Red
from usertcp.tcp.accecn import CEB, Accurate
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.ecn_policy import Ecn
from usertcp.units import KIB, MIB, MS, SEC

RATE = 50_000_000  # bit/s
DELAY = 20 * MS  # there and back
SIZE = 4 * MIB
# RED's average must follow a slow start, or its queue is full before it says a word.
QUEUES: dict[str, Discipline] = {"codel": CoDel(), "red": Red(20 * KIB, 600 * KIB, 0.3, weight=0.02, limit=4 * MIB)}
BASE = TcpConfig(receive_buffer=4 * MIB, send_buffer=4 * MIB)


@dataclass
class Run:
    """What came of one transfer; times in ns."""

    sender: End
    receiver: End
    bottleneck: SimHost
    took: int


def run(queue: Discipline, policy: Ecn, *, offload: bool = False) -> Run:
    """``SIZE`` bytes over a bottleneck with ``queue``, able to mark; the receiver grants what it is asked for."""
    world = World(3)
    ends = Wire(delay=DELAY // 4, offload=offload, split=True)
    narrow = replace(ends, down=PathConfig(RATE, DELAY // 4, queue=queue, ecn=True))
    a = world.host("a", "10.0.0.1/24", wire=ends, config=replace(BASE, ecn=policy))
    b = world.host("b", "10.0.0.2/24", wire=narrow, config=BASE)
    server = Server(b.listen(PORT), End)
    data = payload(SIZE)
    sender = transfer(a, server, b, data)
    assert world.run_until(lambda: bool(server.ends) and server.ends[0].ended, 60 * SEC)
    took = world.now
    world.run_for(SEC)
    (receiver,) = server.ends
    assert receiver.digest == hashlib.sha256(data).digest()
    return Run(sender, receiver, b, took)


@pytest.mark.rfc(3168, "§6.1.2")
@pytest.mark.parametrize("offload", [False, True])
@pytest.mark.parametrize("policy", [Ecn.CLASSIC, Ecn.ACCURATE])
@pytest.mark.parametrize("queue", QUEUES)
def test_marking_bottleneck_reduces_the_window_and_nothing_is_lost(queue: str, policy: Ecn, offload: bool) -> None:
    done = run(QUEUES[queue], policy, offload=offload)
    path, sender, receiver = done.bottleneck.down, done.sender.conn, done.receiver.conn
    assert path.marks > 0
    assert path.drops == 0
    assert sender.info().retransmissions == 0
    assert sender.snd.cc.ssthresh < RATE // 8 * DELAY // SEC * 5 // 4  # about what the path holds without a queue
    assert receiver.ecn.received_ce == path.marks
    assert done.took < SIZE * 8 * SEC // RATE * 2  # and the link was used
    if policy is Ecn.ACCURATE:
        here, there = sender.ecn, receiver.ecn
        assert isinstance(here, Accurate)
        assert isinstance(there, Accurate)
        assert here.delivered_ce == path.marks
        assert here.reported.counters[CEB] == there.received.counters[CEB]


@pytest.mark.parametrize("queue", QUEUES)
def test_same_bottleneck_without_ecn_drops_and_text_goes_again(queue: str) -> None:
    done = run(QUEUES[queue], Ecn.OFF)
    path = done.bottleneck.down
    assert path.marks == 0
    assert path.drops > 0
    assert done.sender.conn.info().retransmissions >= path.drops
