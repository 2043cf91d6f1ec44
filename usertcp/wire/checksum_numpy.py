"""The sum of long data by numpy, for :mod:`usertcp.wire.checksum`. Importing this raises ImportError without numpy.

Words of 32 bits in the machine's order are added up in 64: 2^16 is 1 modulo 0xFFFF, so wide words fold as narrow ones
do, and a sum in the other byte order is the sum with its bytes exchanged (RFC 1071 §2 (B)). A call costs some 1.5 µs,
whatever the length, and then a tenth of what Python's integers cost.
"""

import sys
from importlib import import_module
from typing import Any, Final

from usertcp.wire.checksum import Buffer

_numpy: Final[Any] = import_module("numpy")
_frombuffer: Final[Any] = _numpy.frombuffer
_add: Final[Any] = _numpy.add.reduce
_WORD: Final[Any] = _numpy.dtype("=u4")
_SUM: Final[Any] = _numpy.dtype("=u8")
_SWAPPED: Final = sys.byteorder == "little"


def sum_long(data: Buffer) -> int:
    """The folded sum of ``data``, padded right with a zero byte if its length is odd."""
    size = len(data)
    whole = size & ~3
    total = int(_add(_frombuffer(data, _WORD, whole >> 2), dtype=_SUM))
    if whole < size:
        total += int.from_bytes(bytes(data[whole:]).ljust(4, b"\0"), sys.byteorder)
    if not total:
        return 0
    total = total % 0xFFFF or 0xFFFF
    return (total & 0xFF) << 8 | total >> 8 if _SWAPPED else total
