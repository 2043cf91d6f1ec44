"""The simulated world itself: hosts find each other, wires have delay, rate and queue, and a seed is a seed."""

import errno
import hashlib
import io
from dataclasses import replace

import pytest

from tests.sim.flows import PORT, End, Server, both_ways, payload, transfer, two_hosts
from usertcp.driver.sim import Wire, World
from usertcp.link.middleware import Drop, Duplicate, Reorder
from usertcp.link.pcap import Reader
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import State
from usertcp.units import MIB, MS, NEVER, SEC
from usertcp.wire import ethernet

BAD = (Drop(probability=0.05), Reorder(probability=0.05), Duplicate(probability=0.05))


def test_two_hosts_transfer_both_ways_arrives_intact() -> None:
    world, a, b = two_hosts()
    both_ways(world, a, b, 1_000_000)
    world.run()
    assert not list(a.stack.connections())
    assert not list(b.stack.connections())
    assert world.next_event() == NEVER


def test_ten_hosts_each_to_its_neighbour_arrives_intact() -> None:
    world = World(7)
    hosts = [world.host(f"h{n}", f"10.0.0.{n + 1}/24", wire=Wire(delay=(n + 1) * MS // 4)) for n in range(10)]
    servers = [Server(host.listen(PORT), End) for host in hosts]
    pairs = [(n, (n + step) % 10) for n in range(10) for step in (1, 3)]
    clients = [transfer(hosts[n], servers[to], hosts[to], payload(50_000, n * 16 + to)) for n, to in pairs]
    assert world.run_until(
        lambda: all(end.ended for end in clients) and all(end.ended for server in servers for end in server.ends),
        60 * SEC,
    )
    arrived = sorted(end.digest for server in servers for end in server.ends)
    assert arrived == sorted(hashlib.sha256(payload(50_000, n * 16 + to)).digest() for n, to in pairs)
    world.run()
    assert not any(list(host.stack.connections()) for host in hosts)


def test_first_connection_asks_by_arp_then_does_not_again() -> None:
    world, a, b = two_hosts()
    kinds: list[int] = []
    world.observers.append(lambda now, sender, frame: kinds.append(ethernet.parse(memoryview(frame)).ethertype))
    both_ways(world, a, b, 1000)
    assert kinds[:3] == [ethernet.ARP, ethernet.ARP, ethernet.IPV4]
    assert kinds.count(ethernet.ARP) == 4  # the server verifies what the client's request said of it


def digest(seed: int) -> str:
    world, a, b = two_hosts(seed, rules=BAD)
    both_ways(world, a, b, 200_000)
    return world.digest


def test_same_seed_gives_same_packets_and_another_seed_others() -> None:
    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


def test_one_more_host_leaves_the_random_numbers_of_others_alone() -> None:
    def first_syn(more: bool) -> bytes:
        world = World(5)
        a = world.host("a", "10.0.0.1/24")
        world.host("b", "10.0.0.2/24")
        if more:
            world.host("c", "10.0.0.3/24")
        syns: list[bytes] = []
        world.observers.append(lambda now, sender, frame: syns.append(frame) if sender == "a" else None)
        a.connect(("10.0.0.2", 80))
        world.run_for(SEC)
        return syns[1]

    assert first_syn(False) == first_syn(True)


def test_wire_delay_is_counted_on_both_wires_each_way() -> None:
    world = World()
    a = world.host("a", "10.0.0.1/24", wire=Wire(delay=10 * MS))
    world.host("b", "10.0.0.2/24", wire=Wire(delay=5 * MS)).listen(PORT)
    conn = a.connect(("10.0.0.2", PORT))
    assert world.run_until(lambda: conn.state is State.ESTABLISHED)
    assert world.now == 2 * 30 * MS  # ARP there and back, SYN there and SYN,ACK back


def test_wire_rate_bounds_the_throughput() -> None:
    world = World()
    wire = Wire(rate=8_000_000, queue=4 * MIB)  # a million bytes a second
    a, b = world.host("a", "10.0.0.1/24", wire=wire), world.host("b", "10.0.0.2/24", wire=wire)
    server = Server(b.listen(PORT), End)
    transfer(a, server, b, payload(2_000_000))
    assert world.run_until(lambda: bool(server.ends) and server.ends[0].ended)
    assert 2 * SEC < world.now < 2.4 * SEC


def test_full_queue_loses_frames_and_the_transfer_recovers() -> None:
    world = World(3)
    narrow = Wire(delay=10 * MS, rate=8_000_000, queue=20_000)
    a = world.host("a", "10.0.0.1/24", wire=narrow)
    b = world.host("b", "10.0.0.2/24")
    both_ways(world, a, b, 1_000_000)
    assert a.up.drops > 0


def test_refusing_wire_loses_nothing() -> None:
    world = World(3)
    a = world.host("a", "10.0.0.1/24", wire=Wire(rate=8_000_000, queue=20_000, refuse=True))
    b = world.host("b", "10.0.0.2/24")
    client, _ = both_ways(world, a, b, 1_000_000)
    assert a.up.drops == 0
    assert client.conn.info().retransmissions == 0


def test_offloading_hosts_send_few_frames() -> None:
    world = World()
    wire = Wire(offload=True)
    a, b = world.host("a", "10.0.0.1/24", wire=wire), world.host("b", "10.0.0.2/24", wire=wire)
    both_ways(world, a, b, 1_000_000)
    assert world.frames < 400


def test_partition_stalls_and_healing_resumes() -> None:
    world, a, b = two_hosts()
    world.call_at(10 * MS, world.partition, [a], [b])
    world.call_at(20 * SEC, world.heal)
    both_ways(world, a, b, 2_000_000)
    assert world.now > 20 * SEC


def test_partition_for_good_ends_with_a_time_out() -> None:
    world, a, b = two_hosts(config=TcpConfig(user_timeout=30 * SEC))
    server = Server(b.listen(PORT), End)
    client = transfer(a, server, b, payload(2_000_000))
    world.call_at(10 * MS, world.partition, [a], [b])
    assert world.run_until(lambda: client.ended, 60 * SEC)
    assert client.error is not None
    assert client.error.errno in (errno.ETIMEDOUT, errno.EHOSTUNREACH)  # the latter when ARP has failed meanwhile
    assert 30 * SEC < world.now < 35 * SEC


def test_unplugged_host_gets_nothing_until_plugged() -> None:
    world, a, b = two_hosts()
    b.listen(PORT)
    b.unplug()
    conn = a.connect((b.address, PORT))
    world.run_for(500 * MS)
    assert conn.state is State.SYN_SENT
    b.plug()
    assert world.run_until(lambda: conn.state is State.ESTABLISHED, 10 * SEC)


def test_capture_holds_every_frame_at_its_virtual_time() -> None:
    file = io.BytesIO()
    world = World(pcap_file=file)
    a = world.host("a", "10.0.0.1/24")
    b = world.host("b", "10.0.0.2/24")
    both_ways(world, a, b, 10_000)
    file.seek(0)
    records = list(Reader(file))
    assert len(records) == world.frames
    assert [at for at, _ in records] == sorted(at for at, _ in records)
    assert records[0][0] == 0


def test_run_until_out_of_reach_stops_at_the_limit() -> None:
    world, _, _ = two_hosts()
    assert not world.run_until(lambda: False, 3 * SEC)
    assert world.now == 3 * SEC


def test_wire_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Wire().delay = 3  # type: ignore[misc]
    assert replace(Wire(), delay=3).delay == 3
