"""How inputs that are made of records are bent, beside libFuzzer's own ways: whole records move."""

import random
from typing import Final

from tests.fuzz.feed import RECORD

KINDS: Final = 24  # numbers of which the first byte of a record takes one that means something
INTERESTING: Final = (0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 127, 128, 254, 255)


def mutate(data: bytes, longest: int, seed: int) -> bytes:
    """``data`` with one to three changes, at most ``longest`` bytes."""
    source = random.Random(seed)
    parts = [bytearray(data[at : at + RECORD].ljust(RECORD, b"\0")) for at in range(0, len(data), RECORD)]
    parts = parts or [bytearray(RECORD)]
    for _ in range(source.randint(1, 3)):
        _change(parts, source)
    return b"".join(parts)[:longest]


def _change(parts: list[bytearray], source: random.Random) -> None:
    at = source.randrange(len(parts))
    what = source.randrange(8)
    if what == 0:
        parts.insert(source.randint(1, len(parts)), bytearray(parts[at]))
    elif what == 1 and len(parts) > 1:
        del parts[max(at, 1)]
    elif what == 2:
        other = source.randrange(len(parts))
        parts[at], parts[other] = parts[other], parts[at]
    elif what == 3:
        fresh = bytearray(source.randbytes(RECORD))
        fresh[0] %= KINDS
        parts.insert(source.randint(1, len(parts)), fresh)
    elif what == 4:
        parts[at][source.randrange(RECORD)] = source.choice(INTERESTING)
    elif what == 5:
        place = source.randrange(RECORD)
        parts[at][place] = (parts[at][place] + source.choice((1, -1, 2, -2, 16, -16))) & 0xFF
    elif what == 6:
        parts[at][source.randrange(RECORD)] ^= 1 << source.randrange(8)
    else:  # a stretch once more, as a loop would
        size = source.randint(1, 4)
        stretch = [bytearray(part) for part in parts[at : at + size]]
        parts[at:at] = stretch if at else []
