"""The header in front of each frame on a TAP or packet socket with offloads (virtio 1.1 §5.1.6, ``virtio_net_hdr``).

    | flags 1 | gso_type 1 | hdr_len 2 | gso_size 2 | csum_start 2 | csum_offset 2 |      host byte order

It says what is not yet done to the frame: the transport checksum is only the pseudo-header's sum, or the frame is a
super-segment still to be cut. Only TCP over IPv4 is segmented. The form with ``num_buffers`` (12 bytes) is not used.
"""

import struct
from typing import Final

from usertcp.errors import WireError
from usertcp.frame import PLAIN, FrameMeta
from usertcp.wire.checksum import Buffer

HEADER_LEN: Final = 10  # bytes
NEEDS_CSUM: Final = 1  # flags: the sum from csum_start is to be put at csum_offset
DATA_VALID: Final = 2  # the device checked it
GSO_NONE: Final = 0  # gso_type
GSO_TCPV4: Final = 1
GSO_TCPV6: Final = 4
GSO_ECN: Final = 0x80  # beside a type: the super-segment's first segment carries CWR

PLAIN_HEADER: Final = bytes(HEADER_LEN)  # nothing left to do

_HEADER: Final = struct.Struct("=BBHHHH")
_VALID: Final = FrameMeta(csum_valid=True)  # shared, never written to


def encode(meta: FrameMeta) -> bytes:
    """The 10 bytes for an outgoing frame; with a ``gso_size`` it is a super-segment, larger than that."""
    if meta is PLAIN or not meta.csum_start:
        return PLAIN_HEADER
    if meta.gso_size:
        return _HEADER.pack(NEEDS_CSUM, GSO_TCPV4, meta.header_len, meta.gso_size, meta.csum_start, meta.csum_offset)
    return _HEADER.pack(NEEDS_CSUM, GSO_NONE, 0, 0, meta.csum_start, meta.csum_offset)


def decode(view: Buffer) -> FrameMeta:
    """What the device says of the frame behind the 10 bytes; do not write to it.

    A checksum still to be made never left this machine, and so is as good as checked.
    """
    if len(view) < HEADER_LEN:
        raise WireError("vnet: truncated header")
    flags, kind, header_len, gso_size, csum_start, csum_offset = _HEADER.unpack_from(view)
    kind &= ~GSO_ECN
    if kind != GSO_TCPV4 and kind != GSO_TCPV6:
        gso_size = 0
    if not flags & NEEDS_CSUM:
        if not gso_size:
            return _VALID if flags & DATA_VALID else PLAIN
        return FrameMeta(gso_size, 0, 0, header_len, flags & DATA_VALID != 0)
    return FrameMeta(gso_size, csum_start, csum_offset, header_len, True)
