"""One of several stacks on the queues of one device: it has the flows whose segments come to it, and no others."""

import errno
from dataclasses import replace

import pytest

from tests.unit.net.bench import PEER, TUN, US, Bench, tcp_bytes
from usertcp.frame import flow_hash
from usertcp.net.flow import flow_key
from usertcp.net.stats import Drop
from usertcp.wire import ipv4
from usertcp.wire.tcp import SYN

QUEUES = 3


def queue_of(sport: int, dport: int) -> int:
    """Which queue gets what the peer sends from ``sport`` to our ``dport``."""
    return flow_hash(flow_key(ipv4.pack(PEER), ipv4.pack(US), sport, dport)) % QUEUES


def bench(queue: int) -> Bench:
    return Bench(replace(TUN, queues=QUEUES, queue=queue))


@pytest.mark.parametrize("queue", range(QUEUES))
def test_connect_takes_ports_whose_answers_come_back_to_it(queue: int) -> None:
    stack = bench(queue).stack
    ports = [stack.connect((PEER, 80), 0).sport for _ in range(20)]
    assert {queue_of(80, port) for port in ports} == {queue}
    assert len(set(ports)) == 20


def test_connect_from_a_port_of_another_queue_is_refused() -> None:
    stack = bench(0).stack
    theirs = next(port for port in range(40000, 41000) if queue_of(80, port) != 0)
    ours = next(port for port in range(40000, 41000) if queue_of(80, port) == 0)
    with pytest.raises(OSError, match="Cannot assign") as refused:
        stack.connect((PEER, 80), 0, local=(US, theirs))
    assert refused.value.errno == errno.EADDRNOTAVAIL
    assert stack.connect((PEER, 80), 0, local=(US, ours)).sport == ours


def test_syn_that_came_before_all_queues_were_there_is_left_to_its_retransmission() -> None:
    here = bench(1)
    here.stack.listen(("", 80))
    for port in range(40000, 40030):
        segment = tcp_bytes(SYN, sport=port, dport=80)
        here.give(bytes(ipv4.header(ipv4.pack(PEER), ipv4.pack(US), ipv4.TCP, len(segment)) + segment))
    answered = {seg.dport for seg in here.take_segments()}
    assert answered == {port for port in range(40000, 40030) if queue_of(port, 80) == 1}
    assert here.drops() == {Drop.OTHER_QUEUE: 30 - len(answered)}
    assert here.stack.stats.resets_out == 0
