"""A train of segments that differ in their numbers alone, cut to what the device takes at a time.

::

    | header seq=s  FIN PSH CWR | 0 ........ 256 KB |
                     becomes
    | seq=s      CWR | unit |  | seq=s+unit | unit |  ...  | seq=s+k*unit  FIN PSH | rest |

A unit is a super-segment, where the device cuts those, or one segment. Only the last one carries FIN and PSH (RFC 9293
§3.9.1.2, MUST-61), only the first CWR (RFC 3168 §6.1.2), unless that bit is part of the ACE counter, which all carry
(RFC 9768 §3.3.4). An urgent pointer would be another one in each, so there is none (``output``). Options are repeated
as they are. Payload is cut by views; no byte is copied. Checksums and IP headers are the caller's, as for any other
segment.
"""

from collections.abc import Iterator
from struct import Struct
from typing import Final

from usertcp.units import MASK32
from usertcp.wire.tcp import CWR, FIN, PSH, URG

FLAGS: Final = 13  # where in the TCP header
SEQ: Final = 4
NUMBER: Final = Struct("!I")


def flags_along(flags: int, counter: bool) -> tuple[int, int, int]:
    """Those of the first piece, of the ones between and of the last, of a train with ``flags``. ``counter``: CWR is a
    bit of the ACE field."""
    assert not flags & URG
    last = flags if counter else flags & ~CWR
    return flags & ~(FIN | PSH), last & ~(FIN | PSH), last


def split(header: bytearray, payload: list[memoryview], length: int, size: int) -> Iterator[list[memoryview]]:
    """The payload of each piece; ``header`` is made that of each in turn."""
    if length <= size:
        yield payload
        return
    (seq,) = NUMBER.unpack_from(header, SEQ)
    flags, middle, last = flags_along(header[FLAGS], False)
    for piece in pieces(payload, length, size):
        length -= size
        NUMBER.pack_into(header, SEQ, seq & MASK32)
        header[FLAGS] = flags if length > 0 else last
        yield piece
        flags = middle
        seq += size


def pieces(payload: list[memoryview], length: int, size: int) -> list[list[memoryview]]:
    """``payload``, of ``length`` bytes, in pieces of ``size`` bytes, the last one perhaps of less."""
    if len(payload) == 1:
        (view,) = payload
        return [[view[at : at + size]] for at in range(0, length, size)]
    cut: list[list[memoryview]] = [[]]
    want = size
    for view in payload:
        while len(view) > want:
            cut[-1].append(view[:want])
            cut.append([])
            view, want = view[want:], size
        cut[-1].append(view)
        want -= len(view)
    return cut
