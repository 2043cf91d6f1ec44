"""What the wire tests draw: addresses, segments, whole packets, and damage done to them."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from usertcp.wire import checksum, icmp, ipv4, tcp

u8 = st.integers(0, 0xFF)
u9 = st.integers(0, 0x1FF)  # the flags of a TCP header
u16 = st.integers(0, 0xFFFF)
u24 = st.integers(0, 0xFF_FFFF)
u32 = st.integers(0, 0xFFFF_FFFF) | st.integers(0xFFFF_FF00, 0xFFFF_FFFF)  # the wrap is never far
macs = st.binary(min_size=6, max_size=6)
addresses = st.binary(min_size=4, max_size=4)
payloads = st.binary(max_size=64) | st.binary(max_size=1600)

sack_blocks = st.lists(st.tuples(u32, u32), min_size=1, max_size=4).map(tuple)
options = st.builds(
    tcp.Options,
    mss=st.integers(0, 0xFFFF),
    wscale=st.integers(-1, tcp.MAX_WSCALE),
    sack_permitted=st.booleans(),
    sack=st.just(()) | sack_blocks,
    malformed=st.booleans(),
    accecn=st.none() | st.tuples(st.just(-1) | u24, st.just(-1) | u24, st.just(-1) | u24),
) | st.builds(tcp.Options, has_ts=st.just(True), tsval=u32, tsecr=u32, sack_permitted=st.booleans())
segments = st.builds(
    tcp.Segment,
    u16,
    u16,
    seq=u32,
    ack=u32,
    flags=u9,
    wnd=u16,
    urg=u16,
    options=options,
    payload=payloads.map(memoryview),
    ecn=st.integers(0, 3),
)

syn_option_bytes = st.builds(
    tcp.syn_options,
    st.integers(1, 0xFFFF),
    st.integers(-1, tcp.MAX_WSCALE),
    st.booleans(),
    st.none() | st.tuples(u32, u32),
)
accecn_option_bytes = st.builds(tcp.accecn, st.sampled_from([tcp.ACCECN0, tcp.ACCECN1]), st.lists(u32, max_size=3))
option_bytes = (
    st.just(b"")
    | syn_option_bytes
    | st.builds(tcp.timestamps, u32, u32)
    | sack_blocks.map(tcp.sack)
    | accecn_option_bytes
    | st.binary(max_size=40).map(lambda raw: raw[: len(raw) & ~3])
)
tcp_bytes = st.builds(
    lambda head, payload: bytes(head) + payload,
    st.builds(tcp.header, u16, u16, u32, u32, u9, u16, option_bytes, u16),
    payloads,
)


@st.composite
def ipv4_packets(draw: st.DrawFn, payload: st.SearchStrategy[bytes] = tcp_bytes) -> bytes:
    """A valid packet without IP options."""
    body = draw(payload)
    src, dst, proto = draw(addresses), draw(addresses), draw(u8)
    ident, ttl, tos, df = draw(u16), draw(u8), draw(u8), draw(st.booleans())
    return ipv4.header(src, dst, proto, len(body), ident=ident, ttl=ttl, tos=tos, df=df) + body


icmp_errors = st.builds(
    lambda kind, code, packet, mtu: icmp.error(kind, code, memoryview(packet), mtu),
    st.sampled_from([3, 4, 11, 12]),
    u8,
    ipv4_packets(),
    u16,
)
icmp_messages = icmp_errors | st.builds(icmp.echo, st.booleans(), u16, u16, payloads)


@dataclass(frozen=True)
class Damage:
    """Bytes overwritten, then cut or lengthened."""

    edits: list[tuple[int, int]]
    cut: int | None
    tail: bytes

    def apply(self, data: bytes) -> bytes:
        out = bytearray(data)
        for at, value in self.edits:
            if out:
                out[at % len(out)] = value
        return bytes(out[: self.cut]) + self.tail


damages = st.builds(
    Damage,
    st.lists(st.tuples(st.integers(0, 63), u8), max_size=4),
    st.none() | st.integers(0, 80),
    st.just(b"") | st.binary(max_size=8),
)


def damaged(valid: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Random bytes, and valid ones to which something happened."""
    return st.binary(max_size=80) | st.builds(lambda data, damage: damage.apply(data), valid, damages)


def with_checksum(offset: int, covered: Callable[[bytes], int]) -> Callable[[bytes], bytes]:
    """A repair that puts the right checksum over the first ``covered(data)`` bytes, so that the rest gets looked at."""

    def repair(data: bytes) -> bytes:
        size = covered(data)
        if len(data) < offset + 2 or size < offset + 2:
            return data
        blank = data[:offset] + b"\0\0" + data[offset + 2 :]
        return blank[:offset] + checksum.checksum(blank[:size]).to_bytes(2, "big") + blank[offset + 2 :]

    return repair
