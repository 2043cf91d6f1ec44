"""scapy reads what we build as we meant it, and we read what scapy builds as it meant it."""

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.compat import raw
from scapy.layers.inet import ICMP, IP, TCP, IPerror, IPOption, TCPerror
from scapy.layers.l2 import ARP, Ether
from scapy.utils import PcapReader, PcapWriter, rdpcap

from tests.unit.wire.strategies import addresses, macs, payloads, sack_blocks, segments, u8, u9, u16, u32
from usertcp.link import pcap
from usertcp.wire import arp, ethernet, icmp, ipv4, tcp

mss_items = st.tuples(st.just("MSS"), u16)
wscale_items = st.tuples(st.just("WScale"), st.integers(0, 14))
ts_items = st.tuples(st.just("Timestamp"), st.tuples(u32, u32))
option_lists = st.lists(
    st.sampled_from([("NOP", None), ("SAckOK", b"")]) | mss_items | wscale_items | ts_items,
    max_size=3,
) | st.tuples(sack_blocks.map(lambda blocks: ("SAck", tuple(edge for block in blocks for edge in block)))).map(list)


def mac_text(mac: bytes) -> str:
    return mac.hex(":")


def expected_options(items: list[tuple[str, Any]]) -> tuple[object, ...]:
    """The summary that a list of scapy options should give."""
    last = dict(items)
    blocks = last.get("SAck", ())
    return (
        last.get("MSS", 0),
        last.get("WScale", -1),
        "SAckOK" in last,
        tuple(zip(blocks[::2], blocks[1::2], strict=True)),
        "Timestamp" in last,
        last.get("Timestamp"),
    )


@given(macs, macs, u16, st.binary(min_size=1, max_size=30))
def test_ethernet_header_of_ours_and_of_scapy_are_the_same(dst: bytes, src: bytes, kind: int, payload: bytes) -> None:
    ours = ethernet.header(dst, src, kind) + payload
    assert raw(Ether(dst=mac_text(dst), src=mac_text(src), type=kind) / payload) == ours
    assert ethernet.parse(ours) == (dst, src, kind)


@given(st.sampled_from([arp.REQUEST, arp.REPLY]), macs, addresses, macs, addresses)
def test_arp_message_of_ours_and_of_scapy_are_the_same(op: int, sha: bytes, spa: bytes, tha: bytes, tpa: bytes) -> None:
    theirs = ARP(op=op, hwsrc=mac_text(sha), psrc=ipv4.unpack(spa), hwdst=mac_text(tha), pdst=ipv4.unpack(tpa))
    message = arp.Arp(op, sha, spa, tha, tpa)
    assert arp.build(message) == raw(theirs)
    assert arp.parse(raw(theirs)) == message


@given(addresses, addresses, u8, u16, u8, u8, st.booleans(), payloads)
def test_ipv4_header_of_ours_and_of_scapy_are_the_same(
    src: bytes, dst: bytes, proto: int, ident: int, ttl: int, tos: int, df: bool, payload: bytes
) -> None:
    ours = ipv4.header(src, dst, proto, len(payload), ident=ident, ttl=ttl, tos=tos, df=df)
    theirs = IP(
        src=ipv4.unpack(src),
        dst=ipv4.unpack(dst),
        proto=proto,
        id=ident,
        ttl=ttl,
        tos=tos,
        flags="DF" if df else 0,
    )
    assert raw(theirs / payload) == ours + payload


@pytest.mark.rfc(9293, "MUST-50")
@given(st.binary(max_size=38), st.integers(0, 0x1FFF), st.booleans(), st.booleans(), payloads, st.binary(max_size=6))
def test_ipv4_packet_of_scapy_with_options_and_fragments_parses(
    option: bytes, offset: int, df: bool, mf: bool, payload: bytes, padding: bytes
) -> None:
    flags = "+".join(name for name, on in (("DF", df), ("MF", mf)) if on) or 0
    options = [IPOption(bytes((0x9E, len(option) + 2)) + option)] if option else []
    theirs = raw(IP(src="10.9.0.2", dst="10.9.0.1", proto=6, frag=offset, flags=flags, options=options) / payload)
    packet = ipv4.parse(memoryview(theirs + padding))
    assert (packet.src, packet.dst, packet.proto) == (ipv4.pack("10.9.0.2"), ipv4.pack("10.9.0.1"), 6)
    assert (packet.df, packet.more_fragments, packet.fragment_offset) == (df, mf, offset * 8)
    assert bytes(packet.payload) == payload


@pytest.mark.rfc(9293, "MUST-4")
@given(u16, u16, u32, u32, u9, u16, u16, option_lists, payloads)
def test_tcp_segment_of_scapy_parses_to_its_fields_and_verifies(
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    wnd: int,
    urg: int,
    items: list[tuple[str, Any]],
    payload: bytes,
) -> None:
    theirs = TCP(sport=sport, dport=dport, seq=seq, ack=ack, flags=flags, window=wnd, urgptr=urg, options=items)
    packet = ipv4.parse(memoryview(raw(IP(src="10.9.0.2", dst="10.9.0.1") / theirs / payload)))
    assert tcp.verify(packet.src, packet.dst, packet.payload)
    seg = tcp.parse(packet.payload)
    assert (seg.sport, seg.dport, seg.seq, seg.ack) == (sport, dport, seq, ack)
    assert (seg.flags, seg.wnd, seg.urg, bytes(seg.payload)) == (flags, wnd, urg, payload)
    options = seg.options
    stamps = (options.tsval, options.tsecr) if options.has_ts else None
    found = (options.mss, options.wscale, options.sack_permitted, options.sack, options.has_ts, stamps)
    assert found == expected_options(items)
    assert not options.malformed


@pytest.mark.rfc(9293, "MUST-2")
@given(
    segments,
    st.sampled_from(["syn", "ts", "sack", "none"]),
    st.none() | st.tuples(u32, u32),
    sack_blocks,
    addresses,
    addresses,
)
def test_tcp_segment_of_ours_is_read_and_checksummed_alike_by_scapy(
    seg: tcp.Segment,
    which: str,
    ts: tuple[int, int] | None,
    blocks: tuple[tuple[int, int], ...],
    src: bytes,
    dst: bytes,
) -> None:
    options, expected = b"", set[tuple[str, Any]]()
    if which == "syn":
        options = tcp.syn_options(seg.options.mss, seg.options.wscale, seg.options.sack_permitted, ts)
        expected = {("MSS", seg.options.mss)}
        expected |= {("WScale", seg.options.wscale)} if seg.options.wscale >= 0 else set()
        expected |= {("SAckOK", b"")} if seg.options.sack_permitted else set()
        expected |= {("Timestamp", ts)} if ts else set()
    elif which == "ts" and ts is not None:
        options, expected = tcp.timestamps(*ts), {("Timestamp", ts)}
    elif which == "sack":
        options = tcp.sack(blocks)
        expected = {("SAck", tuple(edge for block in blocks for edge in block))}
    head = tcp.header(seg.sport, seg.dport, seg.seq, seg.ack, seg.flags, seg.wnd, options, seg.urg)
    head[16:18] = tcp.checksum(src, dst, head, [seg.payload]).to_bytes(2, "big")
    ours = ipv4.header(src, dst, ipv4.TCP, len(head) + len(seg.payload)) + head + seg.payload
    theirs = IP(ours)
    part = theirs[TCP]
    assert (part.sport, part.dport, part.seq, part.ack) == (seg.sport, seg.dport, seg.seq, seg.ack)
    assert (int(part.flags), part.window, part.urgptr) == (seg.flags, seg.wnd, seg.urg)
    assert {item for item in part.options if item[0] != "NOP"} == expected
    assert raw(part.payload) == bytes(seg.payload)
    del theirs.chksum, part.chksum
    assert raw(theirs) == ours


@given(st.booleans(), u16, u16, payloads)
def test_icmp_echo_of_ours_and_of_scapy_are_the_same(request: bool, ident: int, sequence: int, payload: bytes) -> None:
    theirs = raw(ICMP(type=8 if request else 0, id=ident, seq=sequence) / payload)
    assert icmp.echo(request, ident, sequence, payload) == theirs
    message = icmp.parse(memoryview(theirs))
    assert isinstance(message, icmp.Echo)
    assert (message.request, message.ident, message.sequence, bytes(message.payload)) == (
        request,
        ident,
        sequence,
        payload,
    )


@given(st.sampled_from([(3, 0), (3, 1), (3, 3), (3, 4), (11, 0), (12, 0)]), u16, u8, u16, u16, u32)
def test_icmp_error_of_scapy_gives_the_flow_it_is_about(
    kind: tuple[int, int], mtu: int, pointer: int, sport: int, dport: int, seq: int
) -> None:
    header = ICMP(type=kind[0], code=kind[1])
    if kind == (3, 4):
        header.nexthopmtu = mtu
    if kind[0] == 12:
        header.ptr = pointer
    about = IPerror(src="10.9.0.2", dst="192.0.2.1") / TCPerror(sport=sport, dport=dport, seq=seq)
    message = icmp.parse(memoryview(raw(header / about)))
    assert isinstance(message, icmp.ErrorMessage)
    assert (message.type, message.code) == kind
    assert message.mtu == (mtu if kind == (3, 4) else 0)
    assert message.pointer == (pointer if kind[0] == 12 else 0)
    assert (message.src, message.dst, message.proto) == (ipv4.pack("10.9.0.2"), ipv4.pack("192.0.2.1"), 6)
    start = sport.to_bytes(2, "big") + dport.to_bytes(2, "big") + seq.to_bytes(4, "big")
    assert bytes(message.embedded[:8]) == start


@given(u16, u16, u32, u16, payloads)
def test_icmp_error_of_ours_is_read_by_scapy_with_the_packet_in_it(
    sport: int, dport: int, seq: int, mtu: int, payload: bytes
) -> None:
    about = raw(IP(src="10.9.0.2", dst="192.0.2.1") / TCP(sport=sport, dport=dport, seq=seq) / payload)
    ours = icmp.error(3, 4, memoryview(about), mtu)
    theirs = ICMP(ours)
    assert (theirs.type, theirs.code, theirs.nexthopmtu) == (3, 4, mtu)
    assert (theirs[IPerror].src, theirs[TCPerror].sport, theirs[TCPerror].seq) == ("10.9.0.2", sport, seq)
    del theirs.chksum
    assert raw(theirs)[:8] == ours[:8]


@given(st.lists(st.tuples(st.integers(0, 2**62 // 4), payloads), max_size=4))
def test_capture_of_ours_is_read_by_scapy(packets: list[tuple[int, bytes]]) -> None:
    file = io.BytesIO()
    writer = pcap.Writer(file, pcap.RAW)
    packets = [(at, ipv4.header(bytes(4), bytes(4), 255, len(body)) + body) for at, body in packets]
    for at, packet in packets:
        writer.write(at, packet)
    file.seek(0)
    read = rdpcap(file)
    assert [raw(packet) for packet in read] == [packet for _, packet in packets]
    assert [round(packet.time * 1_000_000_000) for packet in read] == [at for at, _ in packets]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("nano", [False, True])
def test_capture_of_scapy_is_read_in_either_byte_order_and_unit(order: str, nano: bool) -> None:
    file = io.BytesIO()
    frame = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02") / IP() / b"payload"
    frame.time = 12.5
    writer = PcapWriter(file, linktype=1, endianness=order, nano=nano)
    writer.write(frame)
    writer.write(frame)
    reader = pcap.Reader(io.BytesIO(file.getvalue()))
    assert reader.linktype == pcap.ETHERNET
    assert list(reader) == [(12_500_000_000, raw(frame))] * 2
    assert len(list(PcapReader(io.BytesIO(file.getvalue())))) == 2
