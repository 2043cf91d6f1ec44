"""ARP for IPv4 over Ethernet (RFC 826): 28 bytes, in which both sides' address pairs stand at fixed places.

     0      hardware type 1, protocol type 0x0800
     4      hardware length 6, protocol length 4, operation
     8      sender hardware address, sender protocol address
    18      target hardware address, target protocol address

Other hardware and protocols are a WireError; what to learn from a message is decided in ``net``.
"""

import struct
from typing import Final, NamedTuple

from usertcp.errors import WireError
from usertcp.wire.checksum import Buffer

LEN: Final = 28  # bytes
REQUEST: Final = 1
REPLY: Final = 2

_ARP: Final = struct.Struct("!8s6s4s6s4s")
_FIXED: Final = b"\x00\x01\x08\x00\x06\x04"  # Ethernet, IPv4, and the lengths of their addresses


class Arp(NamedTuple):
    """Operation, sender's and target's hardware (6 bytes) and protocol (4 bytes) address."""

    op: int
    sha: bytes
    spa: bytes
    tha: bytes
    tpa: bytes


def parse(view: Buffer) -> Arp:
    """The message at the start of ``view``; padding after it is ignored."""
    if len(view) < LEN:
        raise WireError("arp: truncated")
    start, sha, spa, tha, tpa = _ARP.unpack_from(view)
    if start[:6] != _FIXED:
        raise WireError("arp: not IPv4 over Ethernet")
    return Arp(start[6] << 8 | start[7], sha, spa, tha, tpa)


def build(arp: Arp) -> bytes:
    """The 28 bytes of a message."""
    return _ARP.pack(_FIXED + arp.op.to_bytes(2, "big"), arp.sha, arp.spa, arp.tha, arp.tpa)
