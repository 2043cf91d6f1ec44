"""A super-segment as the frames that a device would make of it: all headers are right, and no byte is missing."""

import pytest

from usertcp.driver.split import frames
from usertcp.frame import FrameMeta
from usertcp.wire import ethernet, ipv4, tcp
from usertcp.wire.tcp import ACK, CWR, PSH

SRC, DST = ipv4.pack("10.0.0.1"), ipv4.pack("10.0.0.2")


@pytest.mark.parametrize(("size", "ident"), [(2500, 0), (3000, 0xFFFE), (1, 9)])
def test_super_segment_becomes_frames_with_headers_of_their_own(size: int, ident: int) -> None:
    text = bytes(n * 7 & 0xFF for n in range(size))
    header = tcp.header(1, 2, 0xFFFF_FF00, 77, ACK | PSH | CWR, 512, tcp.timestamps(5, 6))
    ip = ipv4.header(SRC, DST, ipv4.TCP, len(header) + size, ident=ident, ttl=9, tos=0xBA)
    link = ethernet.header(b"\x02" * 6, b"\x04" * 6, ethernet.IPV4)
    start = len(link) + len(ip)
    parts = frames(link + ip + header + text, FrameMeta(1000, start, tcp.CHECKSUM_OFFSET, start + len(header)))
    assert len(parts) == -(-size // 1000)
    got = b""
    for n, (frame, meta) in enumerate(parts):
        assert frame[:14] == link
        packet = ipv4.parse(memoryview(frame)[14:])  # verifies the header's checksum
        assert (packet.src, packet.dst, packet.ttl, packet.tos) == (SRC, DST, 9, 0xBA)
        assert packet.ident == (ident + n) & 0xFFFF
        assert packet.total_len == len(frame) - 14
        seg = tcp.parse(packet.payload)
        assert seg.seq == (0xFFFF_FF00 + n * 1000) & 0xFFFF_FFFF
        assert bool(seg.flags & CWR) == (n == 0)
        assert bool(seg.flags & PSH) == (n == len(parts) - 1)
        got += bytes(seg.payload)
        assert (meta.gso_size, meta.csum_start, meta.csum_offset) == (0, start, tcp.CHECKSUM_OFFSET)
    assert got == text
