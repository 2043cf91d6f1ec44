"""Super-segments cut in software, against a naive expectation; and the fields that let a device cut and sum them."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.net.bench import (
    CAPS,
    FAR,
    GATEWAY,
    OTHER_MAC,
    PEER,
    PEER_ISS,
    PEER_MAC,
    TUN,
    US,
    Bench,
    arp_frame,
    tcp_frame,
)
from usertcp.frame import PLAIN, LinkCaps
from usertcp.net.egress import LONGEST, MAX_BURST
from usertcp.net.segmentation import split
from usertcp.tcp.connection import Connection
from usertcp.units import MASK32
from usertcp.wire import arp, ethernet, ipv4, tcp
from usertcp.wire.checksum import pseudo_header_sum
from usertcp.wire.tcp import ACK, CWR, ECE, FIN, PSH, SYN


@given(
    seq=st.integers(0, MASK32),
    flags=st.sampled_from([ACK, ACK | PSH, ACK | PSH | FIN, ACK | CWR | PSH, ACK | CWR | ECE | FIN]),
    text=st.binary(min_size=1501, max_size=5000),
    cut=st.integers(0, 5000),
    size=st.integers(1, 1500),
)
def test_super_segment_split_is_what_its_bytes_one_by_one_would_be(
    seq: int, flags: int, text: bytes, cut: int, size: int
) -> None:
    header = tcp.header(1, 2, seq, 77, flags, 512, tcp.timestamps(5, 6))
    views = [view for view in (memoryview(text)[:cut], memoryview(text)[cut:]) if view]
    parts = [(bytes(header), piece) for piece in split(header, views, len(text), size)]
    expected = [text[at : at + size] for at in range(0, len(text), size)]
    assert [b"".join(piece) for _, piece in parts] == expected
    for n, (head, piece) in enumerate(parts):
        seg = tcp.parse(memoryview(head + b"".join(piece)))
        assert seg.seq == (seq + n * size) & MASK32
        assert (seg.sport, seg.dport, seg.ack, seg.wnd) == (1, 2, 77, 512)
        assert (seg.options.tsval, seg.options.tsecr) == (5, 6)
        last = n == len(parts) - 1
        assert seg.flags & (FIN | PSH) == (flags & (FIN | PSH) if last else 0)
        assert seg.flags & CWR == (flags & CWR if n == 0 else 0)
        assert seg.flags & (ACK | ECE) == flags & (ACK | ECE)


def established(bench: Bench, wnd: int = 65535) -> Connection:
    """A connection whose congestion window lets super-segments out."""
    if bench.caps.mac:
        bench.meet()
    conn = bench.stack.connect((PEER, 80), bench.now, (US, 5000))
    (syn,) = bench.take_segments()
    frame = tcp_frame(SYN | ACK, PEER_ISS, syn.seq + 1, sport=80, dport=5000, mss=1460, wnd=wnd)
    bench.give(frame if bench.caps.mac else frame[14:])
    bench.take()
    return conn


@pytest.mark.rfc(9293, "MUST-2")
@pytest.mark.rfc(9293, "MAY-4")
def test_burst_without_offload_leaves_as_segments_with_checksums() -> None:
    bench = Bench()
    conn = established(bench)
    text = bytes(n & 0xFF for n in range(10_000))
    conn.write(text)
    packets = bench.take_packets()
    segments = [tcp.parse(packet.payload) for packet in packets]
    assert b"".join(bytes(seg.payload) for seg in segments) == text
    assert [len(seg.payload) for seg in segments] == [1460] * 6 + [1240]
    assert all(tcp.verify(packet.src, packet.dst, packet.payload) for packet in packets)
    assert all(packet.df for packet in packets)
    assert [bool(seg.flags & PSH) for seg in segments] == [False] * 6 + [True]
    assert {meta is PLAIN for _, meta in bench.sink.frames} <= {True}


def test_burst_with_offload_leaves_as_one_frame_that_tells_the_device_how() -> None:
    bench = Bench(replace(CAPS, tx_checksum=True, tx_gso=True))
    conn = established(bench)
    conn.write(bytes(10_000))
    bench.settle()
    frame, meta = bench.sink.frames[0]
    packet = ipv4.parse(memoryview(frame)[14:])
    assert len(packet.payload) == 20 + 10_000
    assert (meta.gso_size, meta.csum_start, meta.csum_offset, meta.header_len) == (1460, 34, 16, 54)
    field = int.from_bytes(packet.payload[16:18], "big")
    assert field == pseudo_header_sum(packet.src, packet.dst, 6, len(packet.payload))
    bench.stack.connect((PEER, 81), bench.now)
    bench.settle()
    _, meta = bench.sink.frames[1]
    assert (meta.gso_size, meta.csum_start, meta.csum_offset) == (0, 34, 16)


def test_burst_with_checksum_offload_alone_is_cut_and_not_summed() -> None:
    bench = Bench(replace(CAPS, tx_checksum=True))
    conn = established(bench)
    conn.write(bytes(10_000))
    bench.settle()
    assert len(bench.sink.frames) == 7
    for frame, meta in bench.sink.frames:
        packet = ipv4.parse(memoryview(frame)[14:])
        assert (meta.gso_size, meta.csum_start, meta.csum_offset) == (0, 34, 16)
        field = int.from_bytes(packet.payload[16:18], "big")
        assert field == pseudo_header_sum(packet.src, packet.dst, 6, len(packet.payload))


def sent_at_once(caps: LinkCaps, size: int, *, remote: str = PEER, lost: int = 0) -> list[bytes]:
    """The frames of ``size`` bytes that one connection sends in one turn."""
    bench = Bench(caps, gateway=GATEWAY if caps.mac else None)
    for neighbor in (PEER, GATEWAY) if caps.mac else ():
        bench.meet(neighbor)
    conn = bench.stack.connect((remote, 80), bench.now)
    start = 14 if caps.mac else 0
    syn = tcp.parse(ipv4.parse(memoryview(bench.take()[0])[start:]).payload)
    answer = (SYN | ACK, PEER_ISS, syn.seq + 1)
    bench.give(tcp_frame(*answer, sport=80, dport=syn.sport, src=remote, mss=1460)[14 - start :])
    bench.take()
    conn.snd.buffer.limit = conn.snd.wnd = conn.snd.cc.cwnd = 1 << 20
    conn.snd.rate.lost = lost
    assert conn.write(bytes(n % 251 for n in range(size))) == size
    return bench.take()


def segmenting(caps: LinkCaps, host: bytes | None) -> LinkCaps:
    return replace(caps, tx_checksum=True, tx_gso=True, host=host)


@pytest.mark.parametrize(("start", "caps"), [(14, segmenting(CAPS, PEER_MAC)), (0, segmenting(TUN, b""))])
def test_host_at_the_other_end_of_the_device_takes_frames_longer_than_their_length_field_says(
    start: int, caps: LinkCaps
) -> None:
    frames = sent_at_once(caps, 600_000)
    whole = LONGEST - LONGEST % 1460
    assert [len(frame) - start - 40 for frame in frames[:2]] == [whole, whole]
    text = b"".join(frame[start + 40 :] for frame in frames)
    assert text == bytes(n % 251 for n in range(len(text)))
    for frame in frames:
        length, header = len(frame) - start, frame[start : start + 20]
        assert int.from_bytes(header[2:4], "big") == (length if length <= 0xFFFF else 0)
        assert int.from_bytes(header, "big") % 0xFFFF == 0
        field = int.from_bytes(frame[start + 36 : start + 38], "big")
        assert field % 0xFFFF == pseudo_header_sum(header[12:16], header[16:20], 6, length - 20) % 0xFFFF


@pytest.mark.parametrize(
    ("host", "remote", "lost"),
    [(None, PEER, 0), (OTHER_MAC, PEER, 0), (PEER_MAC, FAR, 0), (PEER_MAC, PEER, 1)],
    ids=["an older kernel", "another host", "behind a router", "after a loss"],
)
def test_whoever_may_not_take_longer_frames_gets_none(host: bytes | None, remote: str, lost: int) -> None:
    frames = sent_at_once(segmenting(CAPS, host), 600_000, remote=remote, lost=lost)
    assert {len(frame) for frame in frames[:-1]} == {54 + MAX_BURST - MAX_BURST % 1460}


def test_gso_without_checksum_offload_is_not_used() -> None:
    bench = Bench(replace(CAPS, tx_gso=True))
    conn = established(bench)
    conn.write(bytes(10_000))
    assert len(bench.take_segments()) == 7


def test_link_without_ethernet_carries_bare_packets() -> None:
    bench = Bench(replace(TUN, tx_checksum=True, tx_gso=True))
    conn = established(bench)
    conn.write(bytes(10_000))
    bench.settle()
    frame, meta = bench.sink.frames[0]
    assert frame[0] >> 4 == 4
    assert (meta.csum_start, meta.header_len) == (20, 40)


@pytest.mark.rfc(9293, "MUST-67")
@pytest.mark.parametrize("mtu", [576, 1280, 1500, 9000, 65535])
def test_syn_advertises_the_mtu_less_forty(mtu: int) -> None:
    bench = Bench(replace(CAPS, mtu=mtu))
    bench.meet()
    bench.stack.connect((PEER, 80), bench.now)
    assert [seg.options.mss for seg in bench.take_segments()] == [mtu - 40]
    assert MAX_BURST + 20 + 60 <= 65535


def test_sink_refuses_the_first_segment_the_connection_tries_again() -> None:
    bench = Bench()
    conn = established(bench)
    conn.write(bytes(10_000))
    before = conn.snd.nxt
    bench.sink.room = 0
    assert bench.turn() is True
    assert conn.snd.nxt == before
    bench.sink.room = None
    assert sum(len(seg.payload) for seg in bench.take_segments()) == 10_000


def test_sink_refuses_in_the_middle_of_a_burst_the_rest_follows_in_order() -> None:
    bench = Bench()
    conn = established(bench)
    text = bytes(n * 7 & 0xFF for n in range(10_000))
    conn.write(text)
    bench.sink.room = 3
    assert bench.turn() is True
    assert len(bench.sink.frames) == 3
    bench.sink.room = None
    segments = bench.take_segments()
    assert b"".join(bytes(seg.payload) for seg in segments) == text
    assert [seg.seq for seg in segments] == sorted(seg.seq for seg in segments)
    assert conn.snd.retransmissions == 0


def test_burst_for_an_unresolved_neighbour_waits_and_leaves_whole() -> None:
    bench = Bench(replace(CAPS, tx_checksum=True, tx_gso=True))
    conn = established(bench)
    bench.stack._neighbors._entries.clear()
    conn.flow.template = None
    bench.stack._egress._templates.clear()
    conn.write(bytes(10_000))
    assert [ethernet.parse(frame).ethertype for frame in bench.take()] == [ethernet.ARP]
    bench.give(arp_frame(arp.REPLY, PEER, US))
    bench.settle()
    frame, meta = bench.sink.frames[0]
    assert (meta.gso_size, meta.csum_start) == (1460, 34)
    assert ethernet.parse(frame).dst == PEER_MAC
    assert tcp.parse(ipv4.parse(memoryview(frame)[14:]).payload).payload == bytes(10_000)


@settings(max_examples=30, deadline=None)
@given(rooms=st.lists(st.integers(0, 4), max_size=40), size=st.integers(1, 14_000))
def test_sink_of_any_mood_gets_every_byte_once_in_order(rooms: list[int], size: int) -> None:
    bench = Bench()
    conn = established(bench)
    text = bytes(n * 13 >> 3 & 0xFF for n in range(size))
    conn.write(text)
    for room in rooms:
        bench.sink.room = room
        bench.turn()
    bench.sink.room = None
    segments = bench.take_segments()
    assert b"".join(bytes(seg.payload) for seg in segments) == text
