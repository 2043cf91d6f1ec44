"""The IPv4 header (RFC 791 §3.1, its second byte as RFC 2474 §3 and RFC 3168 §5 have it).

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    |Version|  IHL  |    DSCP   |ECN|          Total Length         |
    |         Identification        |Flags|      Fragment Offset    |
    |  Time to Live |    Protocol   |         Header Checksum       |
    |                       Source Address                          |
    |                    Destination Address                        |
    |                    Options                    |    Padding    |

Received options are skipped by length and never looked at (source routes too: RFC 7126 §4.3); none are sent. Fragments
are told apart, not put together. ``tos`` is the whole second byte, DSCP and ECN; the latter's code points are in
``wire.ecn``. Inside the core an address is its 4 bytes; ``pack`` and ``unpack`` lead to and from the user's text.
"""

import ipaddress
import struct
from functools import lru_cache
from typing import Final

from usertcp.errors import WireError
from usertcp.wire.checksum import VALID, BadChecksum, finish, sum16

HEADER_LEN: Final = 20  # bytes, without options
MAX_LEN: Final = 65535  # bytes of a whole packet: the width of Total Length
ICMP: Final = 1  # protocol numbers, RFC 790
TCP: Final = 6
UDP: Final = 17
DF: Final = 0x4000  # don't fragment
MF: Final = 0x2000  # more fragments

KNOWN: Final = 1024  # addresses whose two forms are remembered
ANY: Final = bytes(4)
LIMITED_BROADCAST: Final = b"\xff" * 4

_HEADER: Final = struct.Struct("!BBHHHBBH4s4s")


class Packet:
    """One parsed packet. ``fragment_offset``, ``header_len`` and ``total_len`` in bytes; ``payload`` is borrowed."""

    __slots__ = (
        "df",
        "dst",
        "fragment_offset",
        "header_len",
        "ident",
        "more_fragments",
        "payload",
        "proto",
        "src",
        "tos",
        "total_len",
        "ttl",
    )

    def __init__(
        self,
        src: bytes,
        dst: bytes,
        proto: int,
        ttl: int,
        tos: int,
        ident: int,
        fragment: int,
        header_len: int,
        total_len: int,
        payload: memoryview,
    ) -> None:
        """``fragment`` is the 16-bit word of flags and offset."""
        self.src = src
        self.dst = dst
        self.proto = proto
        self.ttl = ttl
        self.tos = tos
        self.ident = ident
        self.df = fragment & DF != 0
        self.more_fragments = fragment & MF != 0
        self.fragment_offset = (fragment & 0x1FFF) << 3
        self.header_len = header_len
        self.total_len = total_len
        self.payload = payload


def parse(view: memoryview) -> Packet:
    """The packet at the start of ``view``; what lies beyond its total length is link padding and is cut off.

    WireError: truncated, not version 4, a header length below 20 or beyond the packet, a total length beyond the view.
    BadChecksum: the header's checksum.
    """
    if len(view) < HEADER_LEN:
        raise WireError("ipv4: truncated header")
    version, tos, total_len, ident, fragment, ttl, proto, _, src, dst = _HEADER.unpack_from(view)
    header_len = (version & 15) << 2
    if version >> 4 != 4:
        raise WireError("ipv4: not version 4")
    if header_len < HEADER_LEN or header_len > total_len:
        raise WireError("ipv4: bad header length")
    if total_len > len(view):
        raise WireError("ipv4: total length beyond the frame")
    if sum16(view[:header_len]) != VALID:
        raise BadChecksum("ipv4: header checksum")
    return Packet(src, dst, proto, ttl, tos, ident, fragment, header_len, total_len, view[header_len:total_len])


def header(
    src: bytes,
    dst: bytes,
    proto: int,
    payload_len: int,
    *,
    ident: int = 0,
    ttl: int = 64,
    tos: int = 0,
    df: bool = True,
) -> bytes:
    """The 20 bytes in front of ``payload_len`` bytes (at most 65515) of transport segment; checksum in place."""
    total_len = HEADER_LEN + payload_len
    assert total_len <= MAX_LEN, "an IPv4 packet has at most 65535 bytes"
    fragment = DF if df else 0
    words = 0x4500 + tos + total_len + ident + fragment + (ttl << 8) + proto
    check = finish(words + int.from_bytes(src, "big") + int.from_bytes(dst, "big"))
    return _HEADER.pack(0x45, tos, total_len, ident, fragment, ttl, proto, check, src, dst)


@lru_cache(maxsize=KNOWN)
def pack(address: str) -> bytes:
    """The 4 bytes of a dotted address; ValueError if it is none."""
    return ipaddress.IPv4Address(address).packed


@lru_cache(maxsize=KNOWN)
def unpack(address: bytes) -> str:
    """The dotted form of 4 bytes."""
    return str(ipaddress.IPv4Address(address))


def is_multicast(address: bytes) -> bool:
    """224.0.0.0/4 (RFC 1112 §4)."""
    return address[0] >> 4 == 14


def is_loopback(address: bytes) -> bool:
    """127.0.0.0/8 (RFC 1122 §3.2.1.3)."""
    return address[0] == 127
