"""Whatever arrives, a parser answers with a value that keeps its promises or with WireError, and with nothing else."""

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.wire.strategies import (
    addresses,
    damaged,
    icmp_messages,
    ipv4_packets,
    macs,
    option_bytes,
    tcp_bytes,
    u16,
    u32,
    with_checksum,
)
from usertcp.errors import WireError
from usertcp.link import pcap
from usertcp.pkt import text
from usertcp.wire import arp, ethernet, icmp, ipv4, tcp, vnet

arp_bytes = st.builds(arp.Arp, u16, macs, addresses, macs, addresses).map(arp.build)
repair_ipv4 = with_checksum(10, lambda data: (data[0] & 15) << 2 if data else 0)
repair_icmp = with_checksum(2, len)


@given(damaged(ipv4_packets()), st.booleans())
def test_ipv4_of_any_bytes_is_a_packet_or_a_wire_error(data: bytes, repair: bool) -> None:
    data = repair_ipv4(data) if repair else data
    try:
        packet = ipv4.parse(memoryview(data))
    except WireError:
        return
    assert 20 <= packet.header_len <= packet.total_len <= len(data)
    assert bytes(packet.payload) == data[packet.header_len : packet.total_len]


@given(damaged(icmp_messages), st.booleans())
def test_icmp_of_any_bytes_is_a_message_or_a_wire_error(data: bytes, repair: bool) -> None:
    data = repair_icmp(data) if repair else data
    try:
        message = icmp.parse(memoryview(data))
    except WireError:
        return
    if isinstance(message, icmp.ErrorMessage):
        assert len(message.src) == len(message.dst) == 4
        assert len(message.embedded) >= icmp.EMBEDDED_MIN
        assert data.endswith(bytes(message.embedded))


@pytest.mark.rfc(9293, "MUST-7")
@given(damaged(tcp_bytes), u16)
def test_tcp_of_any_bytes_is_a_segment_or_a_wire_error(data: bytes, gso_size: int) -> None:
    try:
        segment = tcp.parse(memoryview(data), gso_size)
    except WireError:
        return
    assert bytes(segment.payload) == data[(data[12] >> 4) * 4 :]
    assert 0 <= segment.flags <= 0x1FF
    assert len(segment.payload) <= segment.length <= len(segment.payload) + 2
    assert repr(segment)


@pytest.mark.rfc(9293, "MUST-7")
@given(damaged(option_bytes))
def test_tcp_options_of_any_bytes_are_in_range(data: bytes) -> None:
    options = tcp.parse_options(memoryview(data))
    assert 0 <= options.mss <= 0xFFFF
    assert -1 <= options.wscale <= 14
    assert len(options.sack) <= len(data) // 8


@pytest.mark.parametrize("parse", [ethernet.parse, vnet.decode])
@given(data=st.binary(max_size=40))
def test_fixed_header_of_any_bytes_is_a_value_or_a_wire_error(
    parse: Callable[[memoryview], object], data: bytes
) -> None:
    try:
        parse(memoryview(data))
    except WireError:
        assert len(data) < 14


@given(damaged(arp_bytes))
def test_arp_of_any_bytes_is_a_message_or_a_wire_error(data: bytes) -> None:
    try:
        message = arp.parse(memoryview(data))
    except WireError:
        return
    assert arp.build(message) == data[: arp.LEN]


@st.composite
def captures(draw: st.DrawFn) -> bytes:
    file = io.BytesIO()
    writer = pcap.Writer(file, draw(u16), draw(st.integers(0, 100)))
    for at, packet in draw(st.lists(st.tuples(u32, st.binary(max_size=20)), max_size=3)):
        writer.write(at, packet)
    return file.getvalue()


@given(damaged(captures()))
def test_pcap_of_any_bytes_is_packets_or_a_wire_error(data: bytes) -> None:
    try:
        packets = list(pcap.Reader(io.BytesIO(data)))
    except WireError:
        return
    assert sum(len(packet) + 16 for _, packet in packets) + 24 == len(data)


@given(st.text(alphabet="FSRP.UEW- :()0129<>,acknwiurgmsTvlOKtpe", max_size=40) | st.text(max_size=20))
def test_text_of_any_characters_is_a_segment_or_a_wire_error(line: str) -> None:
    try:
        segment = text.parse(line)
    except WireError:
        return
    assert text.render(segment)
