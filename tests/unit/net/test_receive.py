"""Frames in: every reason to throw one away, the answers of RFC 9293 §3.10.7.1 and .2, and silence where it is due."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from tests.unit.net.bench import (
    CAPS,
    FAR,
    GATEWAY,
    OTHER_MAC,
    OUR_MAC,
    PEER,
    PEER_ISS,
    PEER_MAC,
    TUN,
    US,
    Bench,
    arp_frame,
    ip_frame,
    tcp_bytes,
    tcp_frame,
)
from usertcp.frame import FrameMeta
from usertcp.net.egress import MAX_REPLIES
from usertcp.net.listening import Limits
from usertcp.net.neighbor import Waiting
from usertcp.net.stats import Drop
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import State
from usertcp.units import MASK32, SEC
from usertcp.wire import arp, ethernet, icmp, ipv4, tcp
from usertcp.wire.ipv4 import pack
from usertcp.wire.tcp import ACK, FIN, PSH, RST, SYN, URG


def flipped(frame: bytes, at: int, bits: int = 0xFF) -> bytes:
    return frame[:at] + bytes((frame[at] ^ bits,)) + frame[at + 1 :]


def fragment(offset: int, more: bool) -> bytes:
    packet = bytearray(ip_frame(tcp_bytes(SYN))[14:])
    packet[6:8] = ((0x2000 if more else 0) | offset).to_bytes(2, "big")
    packet[10:12] = bytes(2)
    header = bytes(packet[:20])
    total = sum(int.from_bytes(header[n : n + 2], "big") for n in range(0, 20, 2))
    packet[10:12] = (0xFFFF - total % 0xFFFF).to_bytes(2, "big")
    return ethernet.header(OUR_MAC, PEER_MAC, ethernet.IPV4) + bytes(packet)


USUAL = tcp.syn_options(1460, 7, True, (1, 0))  # of a SYN, as it mostly comes
SHORT_HEADER = tcp_bytes(SYN)[:12]


def bad_offset() -> bytes:
    header = bytearray(tcp_bytes(SYN))
    header[12] = 0xF0
    header[16:18] = bytes(2)
    header[16:18] = tcp.checksum(pack(PEER), pack(US), header, []).to_bytes(2, "big")
    return ip_frame(bytes(header))


SILENT: list[tuple[Drop, bytes]] = [
    (Drop.SHORT_FRAME, b""),
    (Drop.SHORT_FRAME, bytes(13)),
    (Drop.OTHER_HOST, tcp_frame(SYN, to=OTHER_MAC)),
    (Drop.UNKNOWN_ETHERTYPE, ip_frame(tcp_bytes(SYN), ethertype=0x8100)),
    (Drop.UNKNOWN_ETHERTYPE, ip_frame(tcp_bytes(SYN), ethertype=0x86DD)),
    (Drop.BAD_ARP, ethernet.header(OUR_MAC, PEER_MAC, ethernet.ARP) + bytes(28)),
    (Drop.BAD_ARP, arp_frame(arp.REQUEST, PEER, US)[:30]),
    (Drop.BAD_ARP, arp_frame(9, PEER, US)),
    (Drop.BAD_ARP, arp_frame(arp.REPLY, PEER, US, mac=ethernet.BROADCAST)),
    (Drop.BAD_ARP, arp_frame(arp.REPLY, PEER, US, mac=bytes(6))),
    (Drop.ARP_UNSOLICITED, arp_frame(arp.REPLY, PEER, US)),
    (Drop.ARP_CONFLICT, arp_frame(arp.REPLY, US, US)),
    (Drop.MARTIAN, arp_frame(arp.REQUEST, "224.0.0.1", US)),
    (Drop.MARTIAN, arp_frame(arp.REQUEST, FAR, US)),
    (Drop.BAD_IP, ethernet.header(OUR_MAC, PEER_MAC, ethernet.IPV4)),
    (Drop.BAD_IP, flipped(tcp_frame(SYN), 14, 0x20)),
    (Drop.BAD_IP, tcp_frame(SYN)[:-1]),
    (Drop.BAD_IP_CHECKSUM, flipped(tcp_frame(SYN), 14 + 8)),
    (Drop.FRAGMENT, fragment(0, more=True)),
    (Drop.FRAGMENT, fragment(10, more=False)),
    (Drop.NOT_OURS, tcp_frame(SYN, dst="10.9.0.3")),
    (Drop.NOT_OURS, tcp_frame(SYN, dst="10.9.0.3", options=USUAL)),
    (Drop.NOT_UNICAST, tcp_frame(SYN, to=ethernet.BROADCAST, options=USUAL)),
    (Drop.BAD_TCP_CHECKSUM, flipped(tcp_frame(SYN, options=USUAL), 14 + 20 + 5)),
    (Drop.BAD_IP_CHECKSUM, flipped(tcp_frame(SYN, options=USUAL), 14 + 8)),
    (Drop.NOT_UNICAST, tcp_frame(SYN, to=ethernet.BROADCAST)),
    (Drop.NOT_UNICAST, tcp_frame(SYN, to=b"\x01\x00\x5e\x00\x00\x01")),
    (Drop.NOT_UNICAST, ip_frame(bytes(8), ipv4.UDP, dst="10.9.0.255", to=ethernet.BROADCAST)),
    (Drop.MARTIAN, tcp_frame(SYN, dst="127.0.0.1")),
    (Drop.BAD_TCP_CHECKSUM, flipped(tcp_frame(SYN), 14 + 20 + 5)),
    (Drop.BAD_TCP_CHECKSUM, ip_frame(b"")),
    (Drop.BAD_TCP_CHECKSUM, ip_frame(SHORT_HEADER)),
    (Drop.BAD_TCP, bad_offset()),
    (Drop.NO_CONNECTION, tcp_frame(RST, 5, dport=9)),
    (Drop.BAD_ICMP, ip_frame(b"\x08\x00", ipv4.ICMP)),
    (Drop.BAD_ICMP_CHECKSUM, ip_frame(flipped(icmp.echo(True, 1, 2, b"x"), 8), ipv4.ICMP)),
    (Drop.ICMP_IGNORED, ip_frame(icmp._build(5, 1, 0, 0, bytes(28)), ipv4.ICMP)),
    (Drop.ICMP_STRAY, ip_frame(icmp.echo(False, 1, 2, b"x"), ipv4.ICMP)),
]


@pytest.mark.parametrize(("reason", "frame"), SILENT, ids=[f"{n}-{each[0].name}" for n, each in enumerate(SILENT)])
def test_worthless_frame_is_counted_and_nothing_answered(reason: Drop, frame: bytes) -> None:
    bench = Bench()
    bench.stack.listen(("", 80))
    bench.give(frame)
    assert bench.take() == []
    assert bench.drops() == {reason: 1}
    assert bench.stack.stats.as_dict()[f"drop_{reason.name.lower()}"] == 1
    assert not list(bench.stack.connections())


def overflow_listener() -> Bench:
    bench = Bench()
    listener = bench.stack.listen(("", 80), backlog=1)
    listener.queue.extend([None] * 9)  # type: ignore[list-item]
    bench.give(tcp_frame(SYN))
    assert bench.take() == []
    return bench


def no_memory() -> Bench:
    bench = Bench(memory=1 << 20)
    bench.stack.listen(("", 80))
    assert bench.stack.memory.charge(0, 1 << 20)
    bench.give(tcp_frame(SYN))
    assert bench.take() == []
    assert not list(bench.stack.connections())
    return bench


def no_route() -> Bench:
    bench = Bench()
    bench.stack.listen(("", 80))
    bench.give(tcp_frame(SYN, src=FAR))
    bench.give(tcp_frame(SYN, src=FAR, dport=81))
    assert bench.take() == []
    return bench


def reply_overflow() -> Bench:
    bench = Bench()
    bench.meet()
    bench.sink.room = 0
    for _ in range(MAX_REPLIES + 1):
        bench.give(tcp_frame(SYN, dport=9))
    bench.give(arp_frame(arp.REQUEST, PEER, US))
    bench.turn()
    bench.sink.room = None
    assert len(bench.take()) == MAX_REPLIES
    return bench


def limited() -> Bench:
    bench = Bench()
    for _ in range(60):
        bench.give(ip_frame(bytes(8), ipv4.UDP))
    return bench


def unknown_protocol() -> Bench:
    bench = Bench()
    bench.give(ip_frame(bytes(8), 99))
    return bench


def waits(bench: Bench, ip: str) -> None:
    bench.stack._neighbors.wait(bench.stack._neighbors.lookup(pack(ip), bench.now), Waiting(b"", FrameMeta(), None))


def neighbor_queue() -> Bench:
    bench = Bench(neighbor_queue=2)
    for _ in range(3):
        waits(bench, PEER)
    return bench


def neighbor_evicted() -> Bench:
    bench = Bench(neighbor_capacity=1)
    waits(bench, PEER)
    waits(bench, "10.9.0.9")
    return bench


def neighbor_failed() -> Bench:
    bench = Bench()
    waits(bench, PEER)
    bench.advance(4 * SEC)
    return bench


def other_queue() -> Bench:
    bench = Bench(replace(CAPS, queues=256))
    bench.meet()
    for port in range(40000, 40004):
        bench.give(tcp_frame(SYN, sport=port))
    return bench


def second_syn(limits: Limits) -> Bench:
    bench = Bench(limits=limits)
    bench.stack.listen(("", 80))
    for port in (40000, 40001):
        bench.give(tcp_frame(SYN, sport=port))
    return bench


OTHER: list[tuple[Drop, Callable[[], Bench]]] = [
    (Drop.LISTEN_OVERFLOW, overflow_listener),
    (Drop.SOURCE_LIMIT, partial(second_syn, Limits(source_connections=1))),
    (Drop.LISTENER_LIMIT, partial(second_syn, Limits(listener_connections=1))),
    (Drop.NO_MEMORY, no_memory),
    (Drop.NO_ROUTE, no_route),
    (Drop.REPLY_OVERFLOW, reply_overflow),
    (Drop.UDP, limited),
    (Drop.ICMP_LIMITED, limited),
    (Drop.UNKNOWN_PROTOCOL, unknown_protocol),
    (Drop.OTHER_QUEUE, other_queue),
    (Drop.NEIGHBOR_QUEUE, neighbor_queue),
    (Drop.NEIGHBOR_EVICTED, neighbor_evicted),
    (Drop.NEIGHBOR_FAILED, neighbor_failed),
]


@pytest.mark.parametrize(("reason", "make"), OTHER, ids=[each[0].name for each in OTHER])
def test_situation_that_loses_something_is_counted(reason: Drop, make: Callable[[], Bench]) -> None:
    assert make().drops()[reason] >= 1


def test_every_drop_reason_has_a_test() -> None:
    assert {reason for reason, _ in SILENT} | {reason for reason, _ in OTHER} == set(Drop)


@pytest.mark.rfc(1122, "§4.2.3.10")
@pytest.mark.rfc(9293, "MUST-57")
@pytest.mark.parametrize("dst", ["224.0.0.1", "10.9.0.255", "10.9.0.0", "255.255.255.255"])
def test_syn_to_many_is_dropped_in_silence(dst: str) -> None:
    bench = Bench()
    bench.stack.listen(("", 80))
    bench.give(tcp_frame(SYN, dst=dst))
    bench.give(tcp_frame(SYN, dst=dst, to=ethernet.BROADCAST))
    assert bench.take() == []
    assert bench.drops() == {Drop.NOT_UNICAST: 2}


@pytest.mark.rfc(1122, "§4.2.3.10")
@pytest.mark.rfc(9293, "MUST-63")
@pytest.mark.parametrize("options", [b"", USUAL])
@pytest.mark.parametrize("src", ["0.0.0.0", "127.0.0.1", "224.0.0.5", "10.9.0.255", "255.255.255.255", US, "250.0.0.1"])
def test_syn_from_an_impossible_source_is_dropped_in_silence(src: str, options: bytes) -> None:
    bench = Bench()
    bench.stack.listen(("", 80))
    bench.give(tcp_frame(SYN, src=src, options=options))
    assert bench.take() == []
    assert bench.drops() == {Drop.MARTIAN: 1}
    assert not list(bench.stack.connections())


@pytest.mark.rfc(9293, "MUST-3")
@pytest.mark.parametrize("at", range(20))
def test_segment_with_a_flipped_bit_does_nothing(at: int) -> None:
    bench = Bench()
    bench.stack.listen(("", 80))
    bench.give(flipped(tcp_frame(SYN), 14 + 20 + at, 1))
    assert bench.take() == []
    assert bench.drops() == {Drop.BAD_TCP_CHECKSUM: 1}


def test_checksum_vouched_for_by_the_device_is_not_looked_at() -> None:
    bench = Bench()
    bench.meet()
    bench.stack.listen(("", 80))
    bench.give(flipped(tcp_frame(SYN), 14 + 20 + 16), FrameMeta(csum_valid=True))
    assert [seg.flags for seg in bench.take_segments()] == [SYN | ACK]


@pytest.mark.rfc(9293, "MUST-50")
@pytest.mark.rfc(9293, "MUST-51")
@pytest.mark.rfc(9293, "MUST-52")
@pytest.mark.rfc(9293, "MUST-53")
@pytest.mark.rfc(9293, "SHLD-24")
@pytest.mark.rfc(9293, "MAY-10")
@pytest.mark.rfc(9293, "MAY-11")
@pytest.mark.parametrize("words", range(1, 11))
@pytest.mark.parametrize(
    "kind", [0x44, 0x07, 0x83, 0x89, 0x5E], ids=["timestamp", "record", "loose", "strict", "other"]
)
def test_ip_options_of_any_length_are_skipped(kind: int, words: int) -> None:
    """Source routes too: the answer goes back by our own."""
    bench = Bench()
    bench.meet()
    bench.stack.listen(("", 80))
    packet = bytearray(tcp_frame(SYN)[14:])
    packet[20:20] = bytes((kind, 4 * words)) + bytes(4 * words - 2)
    packet[0] = 0x45 + words
    packet[2:4] = len(packet).to_bytes(2, "big")
    packet[10:12] = bytes(2)
    header = packet[: 20 + 4 * words]
    total = sum(int.from_bytes(header[n : n + 2], "big") for n in range(0, len(header), 2))
    packet[10:12] = (0xFFFF - total % 0xFFFF).to_bytes(2, "big")
    bench.give(ethernet.header(OUR_MAC, PEER_MAC, ethernet.IPV4) + bytes(packet))
    (sent,) = bench.take_packets()
    answer = tcp.parse(sent.payload)
    assert (answer.flags, answer.ack) == (SYN | ACK, (PEER_ISS + 1) & MASK32)
    assert (sent.header_len, sent.dst) == (20, pack(PEER))


# --- segments for nobody ----------------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "X-10")
@pytest.mark.parametrize(
    ("flags", "payload", "reply"),
    [
        (SYN, b"", (0, PEER_ISS + 1, RST | ACK)),
        (SYN | FIN, b"abc", (0, PEER_ISS + 5, RST | ACK)),
        (0, b"abc", (0, PEER_ISS + 3, RST | ACK)),
        (FIN, b"", (0, PEER_ISS + 1, RST | ACK)),
        (ACK, b"", (77, 0, RST)),
        (SYN | ACK, b"", (77, 0, RST)),
        (ACK | PSH | FIN | URG, b"abc", (77, 0, RST)),
        (RST, b"", None),
        (RST | ACK, b"", None),
        (RST | SYN, b"abc", None),
    ],
)
def test_segment_for_a_closed_port_is_reset_unless_a_reset(
    flags: int, payload: bytes, reply: tuple[int, int, int] | None
) -> None:
    bench = Bench()
    bench.meet()
    bench.give(tcp_frame(flags, PEER_ISS, 77, payload, dport=9))
    expected = [] if reply is None else [(reply[0], reply[1] & MASK32, reply[2])]
    segments = bench.take_segments()
    assert [(seg.seq, seg.ack, seg.flags) for seg in segments] == expected
    assert all((seg.sport, seg.dport) == (9, 40000) for seg in segments)
    assert bench.stack.stats.resets_out == len(segments)
    assert bench.drops() == {Drop.NO_CONNECTION: 1}


@pytest.mark.rfc(9293, "X-11")
@pytest.mark.parametrize(
    ("flags", "reply"),
    [
        (RST, None),
        (RST | ACK, None),
        (RST | SYN, None),
        (FIN, None),
        (0, None),
        (ACK, (77, 0, RST)),
        (SYN | ACK, (77, 0, RST)),
        (FIN | ACK, (77, 0, RST)),
    ],
)
def test_segment_for_a_listener_that_is_no_syn_is_reset_if_it_has_an_ack(
    flags: int, reply: tuple[int, int, int] | None
) -> None:
    bench = Bench()
    bench.meet()
    bench.stack.listen((US, 80))
    bench.give(tcp_frame(flags, PEER_ISS, 77))
    assert [(seg.seq, seg.ack, seg.flags) for seg in bench.take_segments()] == ([] if reply is None else [reply])
    assert not list(bench.stack.connections())


def test_syn_for_a_listener_makes_one_connection() -> None:
    bench = Bench()
    bench.meet()
    bench.stack.listen((US, 80))
    bench.give(tcp_frame(SYN))
    bench.give(tcp_frame(SYN))
    (conn,) = bench.stack.connections()
    assert conn.state is State.SYN_RECEIVED
    assert (conn.flow.local, conn.flow.remote) == ((US, 80), (PEER, 40000))
    assert {seg.flags for seg in bench.take_segments()} == {SYN | ACK}


@pytest.mark.rfc(9293, "SHLD-21")
@pytest.mark.rfc(9293, "SHLD-22")
@pytest.mark.rfc(9293, "MUST-48")
@pytest.mark.rfc(9293, "MUST-49")
def test_ttl_and_dscp_of_the_configuration_are_on_every_segment_from_then_on() -> None:
    bench = Bench(tcp=TcpConfig(ttl=5, tos=0xB8))
    bench.meet()
    conn = bench.stack.connect((PEER, 80), bench.now, (US, 5000))
    (packet,) = bench.take_packets()
    assert (packet.ttl, packet.tos) == (5, 0xB8)
    syn = tcp.parse(packet.payload)
    bench.give(tcp_frame(SYN | ACK, PEER_ISS, syn.seq + 1, sport=80, dport=5000))
    assert {(packet.ttl, packet.tos) for packet in bench.take_packets()} == {(5, 0xB8)}
    conn.configure(ttl=9, tos=0x20)
    conn.write(b"x")
    assert {(packet.ttl, packet.tos) for packet in bench.take_packets()} == {(9, 0x20)}


@pytest.mark.rfc(9293, "MUST-8")
def test_same_flow_opened_a_second_later_has_a_number_a_quarter_million_on() -> None:
    bench = Bench()
    bench.meet()
    numbers = []
    for _ in range(2):
        conn = bench.stack.connect((PEER, 80), bench.now, (US, 5000))
        (syn,) = bench.take_segments()
        numbers.append(syn.seq)
        conn.abort()
        bench.settle()
        bench.now += SEC
    assert (numbers[1] - numbers[0]) & MASK32 == 250_000


def in_time_wait(bench: Bench) -> tuple[int, int]:
    """A connection from the peer's port 40000 that we closed first; returns (our next number, the peer's)."""
    bench.meet()
    listener = bench.stack.listen((US, 80))
    bench.give(tcp_frame(SYN))
    (answer,) = bench.take_segments()
    bench.give(tcp_frame(ACK, PEER_ISS + 1, answer.seq + 1))
    conn = listener.accept()
    assert conn is not None
    conn.close()
    (fin,) = bench.take_segments()
    bench.give(tcp_frame(FIN | ACK, PEER_ISS + 1, fin.seq + 1))
    bench.take()
    assert conn.state is State.TIME_WAIT
    return fin.seq + 1, PEER_ISS + 2


@pytest.mark.rfc(9293, "MAY-2")
def test_time_wait_newer_syn_begins_a_connection_with_a_number_beyond_the_old() -> None:
    bench = Bench()
    ours, theirs = in_time_wait(bench)
    bench.give(tcp_frame(SYN, theirs + 1))
    (answer,) = bench.take_segments()
    assert answer.flags == SYN | ACK
    assert 0 < (answer.seq - ours) & MASK32 < 1 << 31
    (conn,) = bench.stack.connections()
    assert conn.state is State.SYN_RECEIVED


@pytest.mark.rfc(9293, "MAY-2")
def test_time_wait_old_duplicate_syn_leaves_it() -> None:
    bench = Bench()
    in_time_wait(bench)
    bench.give(tcp_frame(SYN, PEER_ISS - 100))
    assert [seg.flags for seg in bench.take_segments()] == [ACK]
    (conn,) = bench.stack.connections()
    assert conn.state is State.TIME_WAIT


def test_time_wait_newer_syn_to_a_full_listener_leaves_it() -> None:
    bench = Bench()
    _, theirs = in_time_wait(bench)
    (listener,) = bench.stack.listeners()
    listener.queue.extend([None] * 200)  # type: ignore[list-item]
    bench.give(tcp_frame(SYN, theirs + 1))
    assert [seg.flags for seg in bench.take_segments()] == [ACK]
    (conn,) = bench.stack.connections()
    assert conn.state is State.TIME_WAIT


def test_time_wait_newer_syn_without_a_listener_leaves_it() -> None:
    bench = Bench()
    _, theirs = in_time_wait(bench)
    (listener,) = bench.stack.listeners()
    listener.close()
    bench.give(tcp_frame(SYN, theirs + 1))
    assert all(not seg.flags & SYN for seg in bench.take_segments())
    (conn,) = bench.stack.connections()
    assert conn.state is State.TIME_WAIT


def test_bare_packets_on_a_link_without_ethernet_are_taken_and_no_arp_sent() -> None:
    bench = Bench(replace(TUN, mtu=1400), gateway=GATEWAY)
    bench.stack.listen(("", 80))
    bench.give(tcp_frame(SYN, src=FAR)[14:])
    (answer,) = bench.take_segments()
    assert (answer.flags, answer.options.mss) == (SYN | ACK, 1360)
    bench.stack.announce()
    assert bench.take() == []


def test_frame_padded_by_the_link_is_cut_to_its_length() -> None:
    bench = Bench(CAPS)
    bench.meet()
    bench.stack.listen(("", 80))
    bench.give(tcp_frame(SYN) + bytes(6))
    assert [seg.flags for seg in bench.take_segments()] == [SYN | ACK]
