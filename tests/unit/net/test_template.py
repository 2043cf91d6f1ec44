"""A template makes the bytes that the general functions make."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from usertcp.frame import LinkCaps
from usertcp.net.egress import Backlog
from usertcp.net.flow import Flow, Ports
from usertcp.net.neighbor import Neighbor
from usertcp.net.stack import Stack, StackConfig
from usertcp.net.template import Template
from usertcp.tcp.config import TcpConfig
from usertcp.units import NEVER
from usertcp.wire import ethernet, ipv4, tcp
from usertcp.wire.checksum import pseudo_header_sum

address = st.binary(min_size=4, max_size=4)


def made(src: bytes, dst: bytes, config: TcpConfig) -> Template:
    neighbor = Neighbor(dst)
    neighbor.mac, neighbor.fresh_until = b"\x02" * 6, NEVER
    neighbor.header = ethernet.header(neighbor.mac, b"\x04" * 6, ethernet.IPV4)
    flow = Flow(Ports((1000, 1000), Random(0).randbytes).bind(src, 1000), src, dst, 80, dst, 0)
    return Template(flow, config, neighbor, neighbor.header, 34)


@given(
    address,
    address,
    st.integers(1, 255),
    st.integers(0, 63),
    st.lists(st.tuples(st.integers(20, 65515), st.integers(0, 3)), min_size=1, max_size=3),
)
def test_suited_head_is_what_the_general_functions_make(
    src: bytes, dst: bytes, ttl: int, dscp: int, packets: list[tuple[int, int]]
) -> None:
    template = made(src, dst, TcpConfig(ttl=ttl, tos=dscp << 2))
    for size, ecn in packets:
        general = ipv4.header(src, dst, tcp.PROTOCOL, size, ttl=ttl, tos=dscp << 2 | ecn)
        header = tcp.header(1, 2, 3, 4, tcp.ACK, 5)
        template.suit(len(header), size - len(header), 0, ecn)
        frame = template.head + header
        frame[template.where] = template.seed
        header[16:18] = pseudo_header_sum(src, dst, tcp.PROTOCOL, size).to_bytes(2, "big")
        assert frame == template.link + general + header


def test_finished_segment_has_the_checksum_of_the_general_function() -> None:
    src, dst = b"\x0a\0\0\x01", b"\x0a\0\0\x02"
    template = made(src, dst, TcpConfig())
    header, text = tcp.header(1, 2, 3, 4, tcp.ACK, 5), [memoryview(b"odd"), memoryview(b"ity")]
    template.suit(len(header), 6, 0, 0)
    frame = template.head + header
    frame[template.where] = template.seed
    template.finish(frame, text)
    assert int.from_bytes(frame[50:52], "big") == tcp.checksum(src, dst, header, text)


def test_template_serves_until_the_neighbour_or_the_settings_change() -> None:
    config = TcpConfig()
    template = made(b"\x0a\0\0\x01", b"\x0a\0\0\x02", config)
    assert template.serves(config)
    assert not template.serves(TcpConfig(ttl=3))
    template.neighbor.header = bytes(14)
    assert not template.serves(config)


def test_burst_keeps_what_goes_with_equal_bursts() -> None:
    template = made(b"\x0a\0\0\x01", b"\x0a\0\0\x02", TcpConfig())
    template.suit(32, 4000, 1448, 0)
    meta = template.meta
    assert (meta.gso_size, meta.csum_start, meta.csum_offset, meta.header_len) == (1448, 34, 16, 66)
    template.suit(32, 0, 0, 0)
    assert (template.meta.gso_size, template.meta.csum_start) == (0, 34)
    template.suit(32, 2896, 1448, 0)
    assert template.meta is meta
    template.suit(20, 2920, 1460, 0)
    assert template.meta.header_len == 54


def test_connections_between_the_same_hosts_share_a_template_as_long_as_their_settings_are_the_same() -> None:
    ours = Stack(StackConfig(("10.9.0.2/24",)), LinkCaps(1500, None), Random(1).randbytes)
    other = TcpConfig(ttl=3)
    conns = [ours.connect(("10.9.0.1", 80), 0, config=config) for config in (None, None, other, other, None)]
    ours.poll(0, Backlog())
    first, second, third, fourth, fifth = [conn.flow.template for conn in conns]
    assert first is second
    assert third is fourth
    assert third is not first
    assert third.head[8] == 3
    assert fifth.head[8] == 64
