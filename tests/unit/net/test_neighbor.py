"""The ARP cache: states, bounds, and who is believed."""

import pytest

from tests.unit.net.bench import (
    GATEWAY,
    OTHER_MAC,
    OUR_MAC,
    PEER,
    PEER_ISS,
    PEER_MAC,
    US,
    Bench,
    Owner,
    arp_frame,
    tcp_frame,
)
from usertcp.frame import PLAIN
from usertcp.net.neighbor import LIFETIME, MAX_WAITING, MAX_WAITING_ALL, RETRY, TRIES, NeighborCache, Reach, Waiting
from usertcp.net.stats import Drop, Stats
from usertcp.tcp.state import State
from usertcp.units import NEVER, SEC
from usertcp.wire import arp, ethernet
from usertcp.wire.ipv4 import pack
from usertcp.wire.tcp import SYN

IP = pack(PEER)


def cache(capacity: int = 4, queue: int = 3) -> NeighborCache:
    return NeighborCache(OUR_MAC, capacity, queue, Stats())


def resolved(table: NeighborCache, now: int = 0) -> None:
    table.lookup(IP, now)
    assert table.learn(IP, PEER_MAC, now, reply=True, to_us=True) is not None


def test_unknown_looked_up_is_incomplete_and_asked_by_broadcast() -> None:
    table = cache()
    entry = table.lookup(IP, 0)
    assert entry.state(0) is Reach.INCOMPLETE
    assert list(table.requests) == [(IP, b"")]
    table.lookup(IP, 1)
    assert len(table.requests) == 1  # not again before RETRY
    assert table.next_deadline() == RETRY


def test_asked_neighbour_replies_is_reachable_for_its_lifetime() -> None:
    table = cache()
    resolved(table)
    entry = table.lookup(IP, 1)
    assert entry.mac == PEER_MAC
    assert entry.header == ethernet.header(PEER_MAC, OUR_MAC, ethernet.IPV4)
    assert entry.state(LIFETIME - 1) is Reach.REACHABLE
    assert entry.state(LIFETIME) is Reach.STALE
    assert table.next_deadline() == NEVER


def test_stale_looked_up_is_asked_directly_and_used_meanwhile() -> None:
    table = cache()
    resolved(table)
    table.requests.clear()
    entry = table.lookup(IP, LIFETIME)
    assert entry.mac == PEER_MAC
    assert list(table.requests) == [(IP, PEER_MAC)]
    table.expire(LIFETIME + RETRY)
    assert table.requests[-1] == (IP, b"")
    table.learn(IP, PEER_MAC, LIFETIME + RETRY, reply=True, to_us=True)
    assert entry.state(LIFETIME + RETRY) is Reach.REACHABLE


def test_silent_neighbour_is_asked_three_times_then_fails() -> None:
    table = cache()
    entry = table.lookup(IP, 0)
    failed = []
    for second in range(1, 6):
        failed.append(table.expire(second * RETRY))
    assert [len(each) for each in failed] == [0, 0, 1, 0, 0]
    assert failed[2] == [entry]
    assert len(table.requests) == TRIES
    assert table.get(IP) is None
    assert table.next_deadline() == NEVER


def test_capacity_reached_the_least_recently_used_leaves() -> None:
    stats = Stats()
    table = NeighborCache(OUR_MAC, 2, 3, stats)
    first, second, third = (bytes((10, 9, 0, n)) for n in (11, 12, 13))
    table.lookup(first, 0)
    table.wait(table.lookup(second, 0), Waiting(b"x", PLAIN, None))
    table.lookup(first, 1)
    table.lookup(third, 2)
    assert len(table) == 2
    assert table.get(second) is None
    assert stats.drops[Drop.NEIGHBOR_EVICTED] == 1


def test_flood_of_unknown_neighbours_keeps_nothing_but_capacity() -> None:
    table = cache(capacity=4)
    for n in range(10_000):
        table.lookup(n.to_bytes(4, "big"), 0)
    assert len(table) == 4
    assert len(table.asked) <= 5
    assert len(table.requests) == 4


def test_flood_of_addresses_at_which_nobody_is_leaves_half_of_the_table_to_who_is_there() -> None:
    table = cache(capacity=8)
    known = [bytes((10, 9, 0, n)) for n in range(11, 15)]
    for ip in known:
        table.lookup(ip, 0)
        assert table.learn(ip, PEER_MAC, 0, reply=True, to_us=True) is not None
    for n in range(10_000):
        table.lookup(n.to_bytes(4, "big"), 0)
    assert len(table) == 8
    assert [entry is not None and entry.mac == PEER_MAC for entry in map(table.get, known)][1:] == [True] * 3


def test_queues_of_all_neighbours_are_bounded_together() -> None:
    table = cache(queue=100, capacity=64)
    held = 0
    for n in range(40):
        entry = table.lookup(bytes((10, 9, 1, n)), 0)
        for _ in range(4):
            table.wait(entry, Waiting(bytes(MAX_WAITING // 4), PLAIN, None))
        held += entry.queued_bytes
    assert held <= MAX_WAITING_ALL + 40 * MAX_WAITING // 4
    for n in range(40):
        entry = table.lookup(bytes((10, 9, 1, n)), 0)
        assert table.take(entry)
        assert not table.take(entry)
    assert table._waiting == 0


def test_queue_full_the_oldest_packet_leaves() -> None:
    stats = Stats()
    table = NeighborCache(OUR_MAC, 4, 3, stats)
    entry = table.lookup(IP, 0)
    for n in range(5):
        table.wait(entry, Waiting(bytes((n,)), PLAIN, None))
    assert [waiting.packet[0] for waiting in entry.queue] == [2, 3, 4]
    assert stats.drops[Drop.NEIGHBOR_QUEUE] == 2


def test_queue_full_by_bytes_the_oldest_packet_leaves() -> None:
    table = cache(queue=100)
    entry = table.lookup(IP, 0)
    for _ in range(3):
        table.wait(entry, Waiting(bytes(MAX_WAITING // 2), PLAIN, None))
    assert len(entry.queue) == 2


@pytest.mark.parametrize(("reply", "to_us"), [(True, True), (True, False), (False, False)])
def test_unknown_claims_an_address_unasked_is_not_believed(reply: bool, to_us: bool) -> None:
    table = cache()
    assert table.learn(IP, PEER_MAC, 0, reply=reply, to_us=to_us) is None
    assert len(table) == 0


def test_unknown_asks_for_us_is_believed_and_verified_at_first_use() -> None:
    table = cache()
    entry = table.learn(IP, PEER_MAC, 7, reply=False, to_us=True)
    assert entry is not None
    assert entry.state(7) is Reach.STALE
    table.lookup(IP, 7)
    assert list(table.requests) == [(IP, PEER_MAC)]


@pytest.mark.parametrize(("reply", "to_us"), [(True, True), (True, False), (False, True), (False, False)])
def test_reachable_another_claims_its_address_keeps_the_mac_and_is_asked(reply: bool, to_us: bool) -> None:
    table = cache()
    resolved(table)
    table.requests.clear()
    assert table.learn(IP, OTHER_MAC, 5, reply=reply, to_us=to_us) is None
    entry = table.lookup(IP, 5)
    assert entry.mac == PEER_MAC
    assert list(table.requests) == [(IP, PEER_MAC)]
    assert table.learn(IP, OTHER_MAC, 6, reply=True, to_us=True) is entry  # the answer to what was asked counts
    assert entry.mac == OTHER_MAC


@pytest.mark.rfc(9293, "MUST-20")
def test_suspected_neighbour_is_verified_at_next_use() -> None:
    table = cache()
    resolved(table)
    table.requests.clear()
    table.doubt(IP)
    table.doubt(pack(GATEWAY))
    assert table.lookup(IP, 5).mac == PEER_MAC
    assert list(table.requests) == [(IP, PEER_MAC)]


# --- in the stack -----------------------------------------------------------------------------------------------------


def test_connect_to_unknown_neighbour_asks_waits_and_sends_when_answered() -> None:
    bench = Bench()
    conn = bench.stack.connect((PEER, 80), bench.now)
    (frame,) = bench.take()
    assert ethernet.parse(frame) == (ethernet.BROADCAST, OUR_MAC, ethernet.ARP)
    assert arp.parse(frame[14:]) == (arp.REQUEST, OUR_MAC, pack(US), bytes(6), IP)
    bench.give(arp_frame(arp.REPLY, PEER, US))
    frames = bench.take()
    assert [ethernet.parse(frame) for frame in frames] == [(PEER_MAC, OUR_MAC, ethernet.IPV4)]
    assert conn.state is State.SYN_SENT


def test_connect_to_silent_neighbour_fails_after_three_requests() -> None:
    bench = Bench()
    conn = bench.stack.connect((PEER, 80), bench.now)
    start = bench.now
    bench.advance(10 * SEC)
    assert conn.state is State.CLOSED
    error = conn.take_error()
    assert isinstance(error, OSError)
    assert error.strerror == "No route to host"
    requests = bench.take_arp()
    assert len(requests) == TRIES
    assert bench.stack.stats.drops[Drop.NEIGHBOR_FAILED] >= 1
    assert conn in bench.stack.take_ready()
    assert bench.stack.next_deadline() == NEVER
    assert start + TRIES * RETRY <= bench.now
    assert not list(bench.stack.connections())


def test_packets_to_far_hosts_wait_for_the_gateway_alone() -> None:
    bench = Bench(gateway=GATEWAY)
    bench.stack.connect(("192.0.2.7", 80), bench.now)
    bench.stack.connect(("198.51.100.7", 80), bench.now)
    assert [message.tpa for message in bench.take_arp()] == [pack(GATEWAY)]
    bench.give(arp_frame(arp.REPLY, GATEWAY, US))
    frames = bench.take()
    assert [ethernet.parse(frame).dst for frame in frames] == [PEER_MAC, PEER_MAC]


def test_request_for_our_address_is_answered() -> None:
    bench = Bench()
    bench.give(arp_frame(arp.REQUEST, PEER, US, to=ethernet.BROADCAST))
    (frame,) = bench.take()
    assert ethernet.parse(frame) == (PEER_MAC, OUR_MAC, ethernet.ARP)
    assert arp.parse(frame[14:]) == (arp.REPLY, OUR_MAC, pack(US), PEER_MAC, IP)


def test_request_for_another_address_is_not_answered() -> None:
    bench = Bench()
    bench.give(arp_frame(arp.REQUEST, PEER, "10.9.0.77", to=ethernet.BROADCAST))
    assert bench.take() == []
    assert bench.drops() == {Drop.ARP_UNSOLICITED: 1}


def test_probe_for_our_address_is_answered_and_teaches_nothing() -> None:
    bench = Bench()
    bench.give(arp_frame(arp.REQUEST, "0.0.0.0", US, to=ethernet.BROADCAST))
    assert [message.op for message in bench.take_arp()] == [arp.REPLY]
    assert len(bench.stack._neighbors) == 0


def test_unsolicited_reply_does_not_poison() -> None:
    bench = Bench()
    bench.give(arp_frame(arp.REPLY, PEER, US, OTHER_MAC))
    assert bench.drops() == {Drop.ARP_UNSOLICITED: 1}
    bench.meet()
    bench.give(arp_frame(arp.REPLY, PEER, US, OTHER_MAC))
    bench.give(tcp_frame(SYN, PEER_ISS))
    frames = [frame for frame in bench.take() if ethernet.parse(frame).ethertype == ethernet.IPV4]
    assert [ethernet.parse(frame).dst for frame in frames] == [PEER_MAC]


def test_another_host_claims_our_address_is_counted_and_ignored() -> None:
    bench = Bench()
    bench.give(arp_frame(arp.REPLY, US, US, OTHER_MAC, to=ethernet.BROADCAST))
    assert bench.drops() == {Drop.ARP_CONFLICT: 1}
    assert bench.take() == []


def test_announce_sends_one_gratuitous_request_for_each_address() -> None:
    bench = Bench(addresses=("10.9.0.2/24", "10.9.0.3/24"))
    bench.stack.announce()
    assert [(each.op, each.spa, each.tpa) for each in bench.take_arp()] == [
        (arp.REQUEST, pack(ip), pack(ip)) for ip in ("10.9.0.2", "10.9.0.3")
    ]


def test_owner_of_several_waiting_packets_is_told_once() -> None:
    bench = Bench()
    owner = Owner()
    for _ in range(3):
        bench.stack._egress.output(pack(US), IP, 17, b"data", bench.now, owner=owner)
    bench.advance(5 * SEC)
    assert len(owner.failed_at) == 1
