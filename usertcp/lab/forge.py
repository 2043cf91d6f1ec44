"""Segments that nobody sent, as frames: for what a scenario needs to turn up on the wire out of nowhere."""

from typing import Final

from usertcp.wire import ethernet, ipv4, tcp

TTL: Final = 64  # hops
WINDOW: Final = 64240  # bytes, unscaled; what Linux offers in a SYN at an MTU of 1500
SYN_OPTIONS: Final = tcp.syn_options(mss=1460, wscale=7, sack_permitted=True, ts=None)


def frame(
    macs: tuple[bytes, bytes],
    addresses: tuple[str, str],
    ports: tuple[int, int],
    *,
    seq: int,
    ack: int = 0,
    flags: int,
    options: bytes = b"",
    payload: bytes = b"",
) -> bytes:
    """An Ethernet frame with one TCP segment; every pair is (source, destination), checksums are right."""
    source, destination = ipv4.pack(addresses[0]), ipv4.pack(addresses[1])
    head = tcp.header(*ports, seq, ack, flags, WINDOW, options)
    views = [memoryview(payload)] if payload else []
    head[tcp.CHECKSUM_OFFSET : tcp.CHECKSUM_OFFSET + 2] = tcp.checksum(source, destination, head, views).to_bytes(
        2, "big"
    )
    segment = bytes(head) + payload
    return (
        ethernet.header(macs[1], macs[0], ethernet.IPV4)
        + ipv4.header(source, destination, ipv4.TCP, len(segment), ttl=TTL)
        + segment
    )
