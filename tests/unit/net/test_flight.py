"""A link that loses without a word what it has no room for: the windows that are offered leave it room."""

from dataclasses import replace

import pytest

from tests.unit.net.bench import CAPS, PEER, PEER_ISS, US, Bench, tcp_frame
from usertcp.tcp.connection import Connection
from usertcp.units import KIB, MIB
from usertcp.wire.tcp import ACK

QUEUE = 20  # segments that the link keeps
FLIGHT = QUEUE // 2 * 1460  # the other half is for ACKs


def connected(bench: Bench, remote: str = PEER) -> Connection:
    bench.meet()
    conn = bench.stack.connect((remote, 80), bench.now)
    if remote == PEER:
        bench.handshake(conn)
    bench.take()
    return conn


def offered(conn: Connection) -> int:
    """The window, bytes."""
    return conn.rcv.edge - conn.rcv.nxt


def test_link_with_a_queue_window_is_what_the_queue_holds() -> None:
    conn = connected(Bench(replace(CAPS, rx_queue=QUEUE)))
    assert offered(conn) == conn.rcv.buffer.limit == conn.rcv.tuner.maximum == FLIGHT


@pytest.mark.parametrize("size", [1 * KIB, 16 * MIB])
def test_link_with_a_queue_buffer_that_a_user_chose_is_no_larger(size: int) -> None:
    conn = connected(Bench(replace(CAPS, rx_queue=QUEUE)))
    conn.configure(receive_buffer=size, receive_buffer_max=size)
    assert conn.config.receive_buffer == size  # what the user is told
    assert conn.rcv.buffer.limit == FLIGHT  # what was offered stays offered
    assert conn.rcv.tuner.maximum == min(size, FLIGHT)


def test_link_with_a_queue_no_more_is_sent_than_it_holds_acks_for() -> None:
    bench = Bench(replace(CAPS, rx_queue=QUEUE))
    conn = connected(bench)
    conn.snd.cc.cwnd = 1 * MIB
    conn.write(bytes(100 * KIB))
    assert sum(len(seg.payload) for seg in bench.take_segments()) == FLIGHT
    bench.give(tcp_frame(ACK, PEER_ISS + 1, conn.snd.una + 2 * 1460, sport=80, dport=conn.sport))
    assert sum(len(seg.payload) for seg in bench.take_segments()) == 2 * 1460


def test_link_without_a_queue_to_mind_has_no_bound() -> None:
    conn = connected(Bench(CAPS))
    assert conn.rcv.tuner.maximum == 32 * MIB


def test_connection_to_this_host_has_no_bound() -> None:
    conn = connected(Bench(replace(CAPS, rx_queue=QUEUE)), US)
    assert conn.rcv.tuner.maximum == 32 * MIB
