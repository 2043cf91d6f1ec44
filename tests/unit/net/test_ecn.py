"""The code point between the IP header and the connection, and what a device may do to CWR."""

from dataclasses import replace

import pytest

from tests.unit.net.bench import CAPS, PEER, PEER_ISS, US, Bench, arp_frame, ip_frame, tcp_bytes, tcp_frame
from usertcp.frame import LinkCaps
from usertcp.net.segmentation import flags_along
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.ecn_policy import Ecn
from usertcp.units import MS
from usertcp.wire import arp, ecn, ethernet, ipv4, tcp
from usertcp.wire.tcp import ACE, ACK, CWR, ECE, PSH, SYN, Segment

OFFLOAD = replace(CAPS, tx_checksum=True, tx_gso=True)


def marked(code: int, frame: bytes) -> bytes:
    """The frame with another code point in its IP header."""
    packet = ipv4.parse(memoryview(frame)[14:])
    tos = packet.tos & ~ecn.MASK | code
    header = ipv4.header(packet.src, packet.dst, packet.proto, len(packet.payload), tos=tos)
    return frame[:14] + header + bytes(packet.payload)


def established(bench: Bench, answer: int) -> Connection:
    """Our SYN answered with these flags; whatever followed is taken."""
    bench.meet()
    conn = bench.stack.connect((PEER, 80), bench.now, (US, 5000))
    (syn,) = bench.take_segments()
    bench.give(tcp_frame(SYN | ACK | answer, PEER_ISS, syn.seq + 1, sport=80, dport=5000, mss=1460))
    bench.take()
    return conn


def from_peer(conn: Connection, flags: int, payload: bytes = b"", *, ack: int = 0) -> bytes:
    seq, una = conn.rcv.nxt & 0xFFFF_FFFF, (ack or conn.snd.una) & 0xFFFF_FFFF
    return tcp_frame(flags, seq, una, payload, sport=80, dport=5000)


@pytest.mark.rfc(3168, "§5")
def test_new_text_says_ect_beside_the_dscp_and_nothing_else_does() -> None:
    bench = Bench(tcp=TcpConfig(ecn=Ecn.CLASSIC, tos=0xB8))
    conn = established(bench, ECE)
    conn.write(b"x")
    assert [packet.tos for packet in bench.take_packets()] == [0xB8 | ecn.ECT_0]
    bench.give(from_peer(conn, ACK | PSH, b"y"))
    bench.advance(50 * MS)
    assert [packet.tos for packet in bench.take_packets()] == [0xB8]
    conn.abort()
    assert [packet.tos for packet in bench.take_packets()] == [0xB8]


@pytest.mark.rfc(9293, "SHLD-22")
@pytest.mark.parametrize("tos", [0x03, 0xFF])
def test_ecn_bits_of_the_configured_tos_never_reach_the_wire(tos: int) -> None:
    bench = Bench(tcp=TcpConfig(tos=tos))
    bench.meet()
    conn = bench.stack.connect((PEER, 80), bench.now, (US, 5000))
    bench.handshake(conn)
    conn.write(b"x")
    assert {packet.tos for packet in bench.take_packets()} == {tos & 0xFC}


@pytest.mark.rfc(3168, "§6.1.3")
@pytest.mark.parametrize("code", [ecn.NOT_ECT, ecn.ECT_1, ecn.ECT_0, ecn.CE])
def test_code_point_of_a_packet_reaches_the_connection(code: int) -> None:
    bench = Bench(tcp=TcpConfig(ecn=Ecn.CLASSIC))
    conn = established(bench, ECE)
    bench.give(marked(code, from_peer(conn, ACK | PSH, b"text")))
    (ack,) = bench.take_segments()
    assert bool(ack.flags & ECE) == (code == ecn.CE)


def test_code_point_of_a_packet_to_ourselves_reaches_the_other_end() -> None:
    bench = Bench(tcp=TcpConfig(ecn=Ecn.ACCURATE))
    listener = bench.stack.listen(("127.0.0.1", 80))
    conn = bench.stack.connect(("127.0.0.1", 80), bench.now)
    bench.settle()
    other = listener.accept()
    assert other is not None
    assert conn.ecn.name == other.ecn.name == "accurate"
    conn.write(b"x" * 1000)
    bench.settle()
    assert other.ecn.received.counters == (1001, 0, 1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("answer", [b"", b"x"])
def test_answers_that_no_connection_sends_say_not_ect(answer: bytes) -> None:
    bench = Bench()
    bench.meet()
    bench.give(marked(ecn.CE, tcp_frame(ACK, payload=answer)))
    bench.give(marked(ecn.CE, ip_frame(b"\x08\x00\xf7\xff\0\0\0\0", ipv4.ICMP)))
    assert [packet.tos for packet in bench.take_packets()] == [0, 0]


# --- bursts ----------------------------------------------------------------------------------------------------------


def burst(bench: Bench, conn: Connection, size: int = 10_000) -> list[tuple[Segment, int]]:
    """(segment, gso_size) of what leaves for ``size`` bytes of new text."""
    conn.write(bytes(size))
    bench.settle()
    out = []
    for frame, meta in bench.sink.frames:
        packet = ipv4.parse(memoryview(frame)[14:])
        assert packet.tos == ecn.ECT_0
        out.append((tcp.parse(packet.payload), meta.gso_size))
    bench.sink.frames.clear()
    return out


@pytest.mark.rfc(3168, "§6.1.2")
@pytest.mark.parametrize("caps", [CAPS, OFFLOAD])
def test_burst_with_cwr_is_cut_here_and_has_it_once(caps: LinkCaps) -> None:
    bench = Bench(caps, tcp=TcpConfig(ecn=Ecn.CLASSIC))
    conn = established(bench, ECE)
    conn.snd.reduced = True
    sent = burst(bench, conn)
    assert [bool(seg.flags & CWR) for seg, _ in sent] == [True] + [False] * 6
    assert not any(gso_size for _, gso_size in sent)
    bench.give(from_peer(conn, ACK, ack=conn.snd.nxt))
    sent = burst(bench, conn)
    assert not any(seg.flags & CWR for seg, _ in sent)
    assert len(sent) == (1 if caps.tx_gso else 7)


@pytest.mark.rfc(9768, "§3.3.4")
@pytest.mark.parametrize("caps", [CAPS, OFFLOAD])
@pytest.mark.parametrize("cep", range(8))
def test_burst_with_a_counter_has_it_whole_in_every_segment(caps: LinkCaps, cep: int) -> None:
    bench = Bench(caps, tcp=TcpConfig(ecn=Ecn.ACCURATE))
    conn = established(bench, CWR)
    conn.ecn.received.cep = 8 + cep  # type: ignore[attr-defined]
    sent = burst(bench, conn)
    assert {seg.flags & ACE for seg, _ in sent} == {cep << tcp.ACE_SHIFT}
    whole = caps.tx_gso and not cep & 0b010  # a device would take that bit out of all but the first
    assert len(sent) == (1 if whole else 7)


def test_burst_with_cwr_that_the_sink_stops_in_the_middle_keeps_its_code_point() -> None:
    bench = Bench(tcp=TcpConfig(ecn=Ecn.CLASSIC))
    conn = established(bench, ECE)
    conn.snd.reduced = True
    conn.write(bytes(10_000))
    bench.sink.room = 3
    bench.turn()
    bench.sink.room = None
    packets = bench.take_packets()
    assert {packet.tos for packet in packets} == {ecn.ECT_0}
    assert [bool(tcp.parse(packet.payload).flags & CWR) for packet in packets] == [True] + [False] * 6


def test_split_with_a_counter_leaves_ace_alone() -> None:
    flags = (ACK | PSH | CWR | ECE) & 0xFF
    assert flags_along(flags, True) == (flags & ~PSH, flags & ~PSH, flags)


def test_packet_that_waited_for_its_neighbour_leaves_with_its_code_point() -> None:
    bench = Bench(tcp=TcpConfig(ecn=Ecn.CLASSIC))
    conn = established(bench, ECE)
    bench.stack._neighbors._entries.clear()
    conn.flow.template = None
    bench.stack._egress._templates.clear()
    conn.write(b"x")
    assert [ethernet.parse(frame).ethertype for frame in bench.take()] == [ethernet.ARP]
    bench.give(arp_frame(arp.REPLY, PEER, US))
    assert [packet.tos for packet in bench.take_packets()] == [ecn.ECT_0]


def test_syn_that_replaces_time_wait_is_negotiated_anew() -> None:
    """RFC 9768 §3.1.2: what was agreed on before is forgotten."""
    bench = Bench()
    bench.meet()
    bench.stack.listen((US, 80))
    bench.give(tcp_frame(SYN | ACE))
    (first,) = bench.take_segments()
    assert first.flags & ACE == CWR
    (conn,) = bench.stack.connections()
    bench.give(ip_frame(tcp_bytes(ACK | CWR, PEER_ISS + 1, first.seq + 1)))
    conn.close()
    (fin,) = bench.take_segments()
    bench.give(ip_frame(tcp_bytes(ACK | tcp.FIN | tcp.AE | ECE, PEER_ISS + 1, fin.seq + 1)))
    bench.take()
    bench.give(tcp_frame(SYN | ECE | CWR, PEER_ISS + 1000))
    (second,) = bench.take_segments()
    assert second.flags & (ACE | SYN | ACK) == SYN | ACK | ECE
