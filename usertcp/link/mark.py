"""Congestion Experienced, written into a frame on its way (RFC 3168 §5).

::

    Ethernet II               IPv4
    | dst | src | 08 00 |  | 45 | tos | length | id | frag | ttl | proto | checksum | ...
    0           12         14   15                                       24
                                 `-- the two lowest bits: 00 not-ECT, 01 ECT(1), 10 ECT(0), 11 CE

A router that would drop a packet marks it instead if its ends understand that (ECT). The IP header's checksum follows
by the difference (RFC 1624 §3); TCP's does not cover the bits. A super-segment is marked as a whole.
"""

from typing import Final

_TYPE: Final = slice(12, 14)
_IPV4: Final = b"\x08\x00"
_TOS: Final = 15
_CHECKSUM: Final = slice(24, 26)
_CE: Final = 3


def mark(frame: bytes) -> bytes | None:
    """The frame with CE in place of ECT, or as it is if it has CE already; None: it is not ECT, or not IPv4."""
    if len(frame) < _CHECKSUM.stop or frame[_TYPE] != _IPV4:
        return None
    tos = frame[_TOS]
    code = tos & _CE
    if code == 0:
        return None
    if code == _CE:
        return frame
    marked = bytearray(frame)
    marked[_TOS] = tos | _CE
    total = (int.from_bytes(frame[_CHECKSUM], "big") ^ 0xFFFF) + _CE - code  # RFC 1624 §3: ~HC + (m' - m)
    marked[_CHECKSUM] = ((total & 0xFFFF) + (total >> 16) ^ 0xFFFF).to_bytes(2, "big")
    return bytes(marked)
