"""Ethernet II framing (RFC 894): destination, source, type, then the packet.

No VLAN tags, no 802.3 length field, no frame check sequence: a tagged frame shows as one of ethertype 0x8100, which
nobody above knows. Frames arrive padded to 60 bytes; the packet's own length tells where it ends.
"""

import struct
from typing import Final, NamedTuple

from usertcp.errors import WireError
from usertcp.wire.checksum import Buffer

HEADER_LEN: Final = 14  # bytes
IPV4: Final = 0x0800  # ethertype, RFC 894
ARP: Final = 0x0806  # ethertype, RFC 826
BROADCAST: Final = b"\xff" * 6

_HEADER: Final = struct.Struct("!6s6sH")


class Header(NamedTuple):
    """The two hardware addresses (6 bytes each) and the ethertype."""

    dst: bytes
    src: bytes
    ethertype: int


def header(dst: bytes, src: bytes, ethertype: int) -> bytes:
    """The 14 bytes in front of a packet."""
    return dst + src + ethertype.to_bytes(2, "big")


def parse(frame: Buffer) -> Header:
    """The header of ``frame``; the packet begins at HEADER_LEN. WireError if the frame is shorter than a header."""
    if len(frame) < HEADER_LEN:
        raise WireError("ethernet: truncated header")
    return Header(*_HEADER.unpack_from(frame))


def is_group(mac: bytes) -> bool:
    """Whether a hardware address is a multicast or the broadcast address."""
    return bool(mac[0] & 1)
