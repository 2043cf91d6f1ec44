"""One budget for all connections of a stack: what is charged, what is refused, what is told."""

import errno

import pytest

from tests.unit.net.bench import PEER, PEER_ISS, US, Bench, tcp_frame
from usertcp.net.stack import StackConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.memory import MIN_CAPACITY
from usertcp.units import KIB, MIB
from usertcp.wire.tcp import ACK


def client(bench: Bench, port: int) -> Connection:
    conn = bench.stack.connect((PEER, port), bench.now)
    bench.handshake(conn)
    bench.take()
    return conn


def test_budget_is_the_configurations_and_rings_have_room_for_two_segments_of_the_link() -> None:
    assert Bench().stack.memory.limit == StackConfig((f"{US}/24",)).memory == 256 * MIB
    assert Bench(memory=MIB).stack.memory.limit == MIB
    assert Bench().stack.memory.minimum == MIN_CAPACITY


@pytest.mark.rfc(9293, "§3.10.1")
def test_connect_without_memory_fails_and_holds_no_port() -> None:
    bench = Bench(memory=64 * KIB)
    bench.meet()
    assert bench.stack.memory.charge(0, 64 * KIB)
    for _ in range(3):
        with pytest.raises(OSError, match="buffer") as caught:
            bench.stack.connect((PEER, 80), bench.now, ("", 40000))
        assert caught.value.errno == errno.ENOBUFS
    bench.stack.memory.credit(64 * KIB)
    assert bench.stack.connect((PEER, 80), bench.now, ("", 40000)).flow.local[1] == 40000


def test_hundreds_of_connections_whose_users_do_not_read_stay_within_the_budget() -> None:
    bench = Bench(memory=MIB)
    bench.meet()
    conns = [client(bench, port) for port in range(1000, 1300)]
    memory = bench.stack.memory
    assert memory.used == 0
    taken = dict.fromkeys(conns, 0)
    for _ in range(12):
        for conn in conns:
            text = bytes(1400)
            seq = PEER_ISS + 1 + conn.rcv.nxt - conn.rcv.irs - 1
            bench.give(tcp_frame(ACK, seq, conn.snd.nxt & 0xFFFF_FFFF, text, sport=conn.dport, dport=conn.sport))
        bench.take()
        assert memory.used <= MIB + memory.minimum * 2 * len(conns)
        assert memory.used == sum(conn.rcv.buffer._ring.capacity + conn.snd.buffer._ring.capacity for conn in conns)
    assert memory.exhausted
    assert memory.refused > 0
    assert all(conn.readable >= 2800 for conn in conns)  # everybody has something
    for conn in conns:
        taken[conn] += len(conn.read(MIB))
        assert taken[conn] == conn.bytes_received
    assert memory.used == 0
    assert not memory.pressed


def test_counters_tell_how_the_memory_stands() -> None:
    bench = Bench(memory=MIB)
    bench.meet()
    client(bench, 80).write(bytearray(5000))
    counters = bench.stack.counters()
    assert counters["memory_limit"] == MIB
    assert counters["memory_used"] == counters["memory_peak"] == 8 * KIB
    assert counters["memory_refused"] == 0
    assert counters["segments_out"] > 0
