"""What is built parses to the same values, and what is parsed and built again is the same bytes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.wire.strategies import (
    accecn_option_bytes,
    addresses,
    icmp_errors,
    ipv4_packets,
    macs,
    option_bytes,
    payloads,
    sack_blocks,
    segments,
    syn_option_bytes,
    u9,
    u16,
    u32,
)
from usertcp.frame import FrameMeta
from usertcp.pkt import text
from usertcp.wire import ethernet, icmp, ipv4, tcp, vnet


def summary(options: tcp.Options) -> tuple[object, ...]:
    """What two equal option summaries have in common."""
    stamps = (options.tsval, options.tsecr) if options.has_ts else None
    return options.mss, options.wscale, options.sack_permitted, options.sack, stamps, options.malformed, options.accecn


def fields(seg: tcp.Segment) -> tuple[object, ...]:
    return seg.seq, seg.ack, seg.flags, seg.wnd, seg.urg, len(seg.payload), summary(seg.options), seg.ecn


@given(macs, macs, u16)
def test_ethernet_header_parses_to_what_it_was_built_from(dst: bytes, src: bytes, ethertype: int) -> None:
    assert ethernet.parse(ethernet.header(dst, src, ethertype)) == (dst, src, ethertype)


@given(ipv4_packets(payload=payloads), st.binary(max_size=9))
def test_ipv4_packet_built_again_from_its_fields_is_the_same(data: bytes, padding: bytes) -> None:
    packet = ipv4.parse(memoryview(data + padding))
    again = ipv4.header(
        packet.src,
        packet.dst,
        packet.proto,
        len(packet.payload),
        ident=packet.ident,
        ttl=packet.ttl,
        tos=packet.tos,
        df=packet.df,
    )
    assert again + packet.payload == data


@given(addresses)
def test_ipv4_address_goes_to_text_and_back(address: bytes) -> None:
    assert ipv4.pack(ipv4.unpack(address)) == address


@given(icmp_errors)
def test_icmp_error_keeps_a_prefix_of_the_packet_it_is_about(data: bytes) -> None:
    message = icmp.parse(memoryview(data))
    assert isinstance(message, icmp.ErrorMessage)
    embedded = data[icmp.HEADER_LEN :]
    assert (message.src, message.dst, message.proto) == (embedded[12:16], embedded[16:20], embedded[9])
    assert bytes(message.embedded) == embedded[20:]


@pytest.mark.rfc(9293, "MUST-5")
@given(u16, u16, u32, u32, u9, u16, u16, option_bytes, payloads, addresses, addresses)
def test_tcp_segment_built_parses_to_the_same_and_its_checksum_verifies(
    sport: int,
    dport: int,
    seq: int,
    ack: int,
    flags: int,
    wnd: int,
    urg: int,
    options: bytes,
    payload: bytes,
    src: bytes,
    dst: bytes,
) -> None:
    head = tcp.header(sport, dport, seq, ack, flags, wnd, options, urg)
    middle = len(payload) // 2
    views = [memoryview(payload)[:middle], memoryview(payload)[middle:]]
    head[tcp.CHECKSUM_OFFSET : tcp.CHECKSUM_OFFSET + 2] = tcp.checksum(src, dst, head, views).to_bytes(2, "big")
    raw = memoryview(bytes(head) + payload)
    assert tcp.verify(src, dst, raw)
    seg = tcp.parse(raw)
    assert (seg.sport, seg.dport, seg.seq, seg.ack) == (sport, dport, seq, ack)
    assert (seg.flags, seg.wnd, seg.urg, bytes(seg.payload)) == (flags, wnd, urg, payload)
    assert summary(seg.options) == summary(tcp.parse_options(memoryview(options)))


@pytest.mark.rfc(9293, "MUST-68")
@pytest.mark.rfc(9293, "MUST-69")
@given(syn_option_bytes | accecn_option_bytes | sack_blocks.map(tcp.sack) | st.builds(tcp.timestamps, u32, u32))
def test_tcp_options_we_send_all_carry_their_length_and_fill_whole_words(raw: bytes) -> None:
    assert len(raw) % 4 == 0
    assert len(raw) <= tcp.MAX_OPTIONS_LEN
    at = 0
    while at < len(raw):
        assert raw[at] != tcp.EOL  # so nothing follows one that would have to be zero
        at += 1 if raw[at] == tcp.NOP else raw[at + 1]
    assert at == len(raw)
    assert not tcp.parse_options(memoryview(raw)).malformed


@given(st.integers(1, 0xFFFF), st.integers(-1, 14), st.booleans(), st.none() | st.tuples(u32, u32))
def test_tcp_syn_options_parse_to_what_they_were_built_from(
    mss: int, wscale: int, sack_permitted: bool, ts: tuple[int, int] | None
) -> None:
    options = tcp.parse_options(memoryview(tcp.syn_options(mss, wscale, sack_permitted, ts)))
    assert summary(options) == (mss, wscale, sack_permitted, (), ts, False, None)


@given(st.integers(1, 0xFFFF), u16, u16, u16)
def test_vnet_header_of_a_super_segment_gives_its_offloads_back(
    csum_start: int, csum_offset: int, header_len: int, gso_size: int
) -> None:
    meta = FrameMeta(gso_size, csum_start, csum_offset, header_len)
    back = vnet.decode(vnet.encode(meta))
    assert (back.csum_start, back.csum_offset, back.csum_valid) == (csum_start, csum_offset, True)
    assert back.gso_size == gso_size


@given(segments, u32, u32, u32, u32)
def test_text_of_any_segment_parses_to_it_with_the_same_bases(
    seg: tcp.Segment, seq_base: int, ack_base: int, tsval_base: int, tsecr_base: int
) -> None:
    bases: dict[str, Any] = {
        "seq_base": seq_base,
        "ack_base": ack_base,
        "tsval_base": tsval_base,
        "tsecr_base": tsecr_base,
    }
    line = text.render(seg, **bases)
    again = text.parse(line, **bases)
    assert fields(again) == fields(seg)
    assert text.render(again, **bases) == line
