"""Buffers that tune themselves and share one budget, between real stacks."""

import hashlib

import pytest

from tests.sim.flows import PORT, End, Server, payload, transfer, two_hosts
from usertcp.driver.sim import SimHost, Wire, World
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.memory import Memory
from usertcp.tcp.state import State
from usertcp.units import MIB, MS, SEC

CHUNK = bytes(1 * MIB)


class Source:
    """Writes as long as there is room."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        conn.user = self

    def on_ready(self) -> None:
        while room := self.conn.writable:
            self.conn.write(CHUNK[:room])


class Drain:
    """Reads everything at once, or while ``open`` is False nothing."""

    def __init__(self, conn: Connection, *, reads: bool = True) -> None:
        self.conn = conn
        self.size = 0
        self.reads = reads
        conn.user = self

    def on_ready(self) -> None:
        while self.reads and self.conn.readable:
            count = self.conn.readable
            self.conn.consume(count)
            self.size += count


def accepted(host: SimHost, world: World, *, reads: bool = True) -> list[Drain]:
    """What the host's listener accepts from now on."""
    drains: list[Drain] = []
    listener = host.listen(PORT)

    class Acceptor:
        def on_ready(self) -> None:
            while (conn := listener.accept()) is not None:
                drains.append(Drain(conn, reads=reads))

    listener.user = Acceptor()
    return drains


@pytest.mark.rfc(7323, "§2.2")
def test_path_of_a_gigabit_and_100_ms_is_filled_with_default_settings() -> None:
    world = World(1)
    config = TcpConfig(congestion="reno")
    a = world.host("a", "10.0.0.1/24", wire=Wire(25 * MS, 10**9, 64 * MIB, offload=True), config=config)
    b = world.host("b", "10.0.0.2/24", wire=Wire(25 * MS, offload=True), config=config)
    drains = accepted(b, world)
    source = Source(a.connect((b.address, PORT)))
    world.run(1700 * MS)  # slow start: ten segments, doubled eleven times
    before = drains[0].size
    world.run_for(800 * MS)
    rate = (drains[0].size - before) * 8 * 10 // 8  # bit/s
    assert rate > 900_000_000
    ours, theirs = source.conn.info(world.now), drains[0].conn.info(world.now)
    assert ours.retransmissions == 0
    assert ours.window_limited_time < ours.busy_time // 4
    assert theirs.rcv_rtt >= 99 * MS
    assert theirs.receive_buffer >= 25_000_000


def test_lan_of_ten_gigabits_is_filled_within_some_milliseconds() -> None:
    world = World(1)
    wire = Wire(25_000, 10**10, 4 * MIB, offload=True)
    a = world.host("a", "10.0.0.1/24", wire=wire)
    b = world.host("b", "10.0.0.2/24", wire=wire)
    drains = accepted(b, world)
    Source(a.connect((b.address, PORT)))
    world.run(5 * MS)
    before = drains[0].size
    world.run_for(5 * MS)
    assert (drains[0].size - before) * 8 * 200 > 9 * 10**9  # bit/s
    assert drains[0].conn.info().receive_buffer >= 4 * 125_000  # times what is on its way


def test_user_who_does_not_read_holds_the_sender_and_the_buffers_small() -> None:
    world, a, b = two_hosts(delay=10 * MS, rate=40_000_000)
    drains = accepted(b, world, reads=False)
    source = Source(a.connect((b.address, PORT)))
    world.run(5 * SEC)
    theirs, ours = drains[0].conn.info(), source.conn.info(world.now)
    assert theirs.receive_buffer == TcpConfig().receive_buffer
    assert theirs.unread <= theirs.receive_buffer * 9 // 8  # it is rounded up to the scale's unit
    assert ours.snd_wnd == 0
    assert ours.unsent <= ours.send_buffer <= 4 * TcpConfig().receive_buffer
    assert ours.window_limited_time > ours.busy_time // 2
    drains[0].reads = True
    drains[0].on_ready()
    world.run_for(3 * SEC)
    assert drains[0].conn.info().receive_buffer > 4 * TcpConfig().receive_buffer


def test_hundreds_of_connections_under_a_small_budget_all_arrive_and_give_everything_back() -> None:
    """Both hosts have a hundredth of what the connections would take if there were enough."""
    world, a, b = two_hosts(delay=5 * MS)
    for host in (a, b):
        host.stack.memory = Memory(1 * MIB)
    number, size = 200, 40_000
    server = Server(b.listen(PORT, backlog=number), End)
    expected = hashlib.sha256(payload(size)).digest()
    clients = [transfer(a, server, b, payload(size)) for _ in range(number)]
    peak = 0

    def done() -> bool:
        nonlocal peak
        for host in (a, b):
            memory, conns = host.stack.memory, list(host.stack.connections())
            held = sum(conn.snd.buffer._ring.capacity + conn.rcv.buffer._ring.capacity for conn in conns)
            assert held <= memory.used <= memory.limit + memory.minimum * 2 * number
            peak = max(peak, memory.used)
        return len(server.ends) == number and all(end.ended for end in server.ends)

    world.kick()
    for _ in range(6000):
        world.run_for(20 * MS)
        if done():
            break
    assert all(end.digest == expected for end in server.ends)
    assert len(server.ends) == number
    assert peak > a.stack.memory.limit * 2 // 3
    world.run_for(5 * SEC)
    assert all(client.ended for client in clients)
    assert [host.stack.memory.used for host in (a, b)] == [0, 0]
    assert not any(host.stack.memory.pressed for host in (a, b))


def test_pressure_that_ends_lets_a_transfer_run_as_before() -> None:
    world, a, b = two_hosts(delay=10 * MS, rate=40_000_000, config=TcpConfig(congestion="reno"))
    drains = accepted(b, world)
    source = Source(a.connect((b.address, PORT)))
    world.run(1 * SEC)
    memory = b.stack.memory
    taken = memory.limit - memory.used
    assert memory.charge(0, taken)

    def rate(duration: int) -> int:
        before = drains[0].size
        world.run_for(duration)
        return (drains[0].size - before) * SEC // duration

    world.run_for(1 * SEC)  # what was promised before still comes
    assert 0 < rate(500 * MS) < 250_000  # two segments a round trip
    assert source.conn.info().state is State.ESTABLISHED
    assert memory.refused == 0
    memory.credit(taken)
    world.run_for(500 * MS)
    assert rate(500 * MS) > 4_500_000
