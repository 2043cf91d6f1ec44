"""Written bytes of which the send buffer keeps a reference in place of a copy, and what was written after them.

``bytes`` cannot change, so a large object may wait where it is for its acknowledgment, and views of it go to the
device. That saves a copy of everything. What can change, or is small, is copied, small pieces together::

      ring (``buffers``)   |  reference  |  copies  |   reference       |  copies
                           ^ start                                               ^ end

A reference is charged to the common memory by its part that waits, though the object stays alive as a whole; whoever
does not want that writes a ``bytearray``. When everything is acknowledged the buffer goes back to its ring.
"""

from collections import deque
from typing import Final, TypeAlias

from usertcp.tcp.memory import SHARE, Memory
from usertcp.units import KIB

_FULL: Final = memoryview(b"")
WORTH_IT: Final = 16 * KIB  # bytes; to copy less is cheaper than to remember it
STEP: Final = 64 * KIB  # bytes of small pieces that are put together


def keepable(data: bytes | bytearray | memoryview, size: int) -> bool:
    """Whether a reference to ``data``, of ``size`` bytes, can stand for it: large ``bytes``, or a stretch of such."""
    if size < WORTH_IT:
        return False
    return type(data) is bytes or (type(data) is memoryview and type(data.obj) is bytes and data.c_contiguous)


Piece: TypeAlias = tuple[int, int, memoryview, int]  # first number, the one behind it, bytes, memory it is charged with


class References:
    """Pieces from the number ``start`` to ``end``, without gaps; ``charged`` bytes of memory are theirs."""

    __slots__ = ("_block", "_filled", "_memory", "_pieces", "charged", "end", "start")

    def __init__(self, memory: Memory, start: int) -> None:
        self._memory = memory
        self._pieces: deque[Piece] = deque()
        self._block = _FULL  # the memory for copies that the last piece is in; ``_filled`` bytes of it are
        self._filled = 0
        self.charged = 0
        self.start = self.end = start

    def __del__(self) -> None:
        """As with a ring: whoever forgets it gives its charge back."""
        self.release(self.end)

    def allowance(self, beside: int) -> int:
        """How many bytes more there is memory for, by the rules of ``memory``: a share of what is left when that is
        little, and for the first ones always. ``beside``: what the buffer's ring takes."""
        memory = self._memory
        left = max(memory.limit - memory.used, 0)
        return max(left >> SHARE if memory.pressed else left, memory.minimum - self.charged - beside)

    def keep(self, view: memoryview) -> None:
        """Take ``view``, of bytes that nobody can change, behind what is there. The budget has memory for it, the
        buffer has asked."""
        self._block, self._filled = _FULL, 0
        self._add(view, len(view))

    def copy(self, view: memoryview) -> int:
        """The same for any ``view`` of bytes; how much of it was taken: the machine may have less memory."""
        start = self.end
        while len(view):
            if self._filled == len(self._block):
                size = STEP if self._memory.has(STEP) else len(view)
                try:
                    self._block = memoryview(bytearray(size))
                except MemoryError:
                    break
                self._filled = 0
                self._add(self._block[:0], size)
            part = view[: len(self._block) - self._filled]
            view = view[len(part) :]
            self._copy(part)
        return self.end - start

    def _add(self, view: memoryview, charge: int) -> None:
        granted = self._memory.charge(0, charge)
        assert granted  # the buffer had asked
        self.charged += charge
        start = self.end
        self.end = end = start + len(view)
        self._pieces.append((start, end, view, charge))

    def _copy(self, part: memoryview) -> None:
        """Let the last piece go on with ``part``, for which its memory has room."""
        end = self._filled + len(part)
        self._block[self._filled : end] = part
        self._filled = end
        self.end += len(part)
        start, _, _, charge = self._pieces[-1]
        self._pieces[-1] = start, self.end, self._block[:end], charge

    def views(self, seq: int, n: int) -> list[memoryview]:
        """The ``n`` bytes from ``seq`` on, uncopied (none when ``n`` is 0)."""
        end = seq + n
        start, _, view, _ = self._pieces[-1]
        if seq >= start:  # nearly always it is what was written last, perhaps with the rest of what was before that
            return [view[seq - start : end - start]] if n > 0 else []
        first, _, other, _ = self._pieces[-2]
        if seq >= first and end > start:
            return [other[seq - first :], view[: end - start]]
        found: list[memoryview] = []
        for start, _, view, _ in reversed(self._pieces):
            if end > start:
                found.append(view[max(seq - start, 0) : end - start])
                end = start
            if end <= seq:
                break
        found.reverse()
        return found

    def release(self, una: int) -> None:
        """Let go of the pieces that end at or below ``una``."""
        pieces = self._pieces
        credit = 0
        while pieces and pieces[0][1] <= una:
            credit += pieces.popleft()[3]
        if credit:
            self.charged -= credit
            self._memory.credit(credit)
            self.start = pieces[0][0] if pieces else self.end
