"""A super-segment cut into the segments it stands for, where the device cannot do it.

::

    | header seq=s  FIN PSH CWR | 0 ........ 64 KB |
                     becomes
    | seq=s      CWR | mss |  | seq=s+mss | mss |  ...  | seq=s+k*mss  FIN PSH | rest |

Only the last one carries FIN and PSH (RFC 9293 §3.9.1.2, MUST-61), only the first CWR (RFC 3168 §6.1.2), unless that
bit is part of the ACE counter, which all carry (RFC 9768 §3.3.4); URG and its pointer stay with the segments that begin
in front of the urgent mark. Options are repeated as they are. Payload is
cut by views; no byte is copied. Checksums and IP headers are the caller's, as for any other segment.
"""

from typing import Final

from usertcp.units import MASK32
from usertcp.wire.tcp import CWR, FIN, PSH, URG

_SEQ: Final = slice(4, 8)  # where in the TCP header
FLAGS: Final = 13
_URGENT: Final = slice(18, 20)


def split(
    header: bytearray, payload: list[memoryview], length: int, size: int, *, counter: bool = False
) -> list[tuple[bytearray, list[memoryview], int]]:
    """(TCP header, payload views, payload bytes) of each segment of ``size`` bytes; ``length``: of the whole.
    ``counter``: CWR is a bit of the ACE field."""
    seq = int.from_bytes(header[_SEQ], "big")
    flags = header[FLAGS]
    urgent = int.from_bytes(header[_URGENT], "big")
    middle = flags & ~(FIN | PSH | (0 if counter else CWR))
    parts: list[tuple[bytearray, list[memoryview], int]] = []
    views = list(reversed(payload))
    for offset in range(0, length, size):
        want = wanted = min(size, length - offset)
        piece: list[memoryview] = []
        while want:
            view = views.pop()
            if len(view) > want:
                views.append(view[want:])
                view = view[:want]
            piece.append(view)
            want -= len(view)
        head = bytearray(header)
        head[_SEQ] = ((seq + offset) & MASK32).to_bytes(4, "big")
        mine = middle
        if offset == 0:
            mine |= flags & CWR
        if offset + wanted == length:
            mine |= flags & (FIN | PSH)
        if flags & URG:
            left = urgent - offset
            if left <= 0:
                mine &= ~URG
            head[_URGENT] = max(left, 0).to_bytes(2, "big")
        head[FLAGS] = mine
        parts.append((head, piece, wanted))
    return parts
