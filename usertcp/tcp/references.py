"""Written bytes of which the send buffer keeps a reference in place of a copy, and what was written after them.

``bytes`` cannot change, so a large object may wait where it is for its acknowledgment, and views of it go to the
device. That saves a copy of everything. What can change, or is small, is copied, small pieces together::

      ring (``buffers``)   |  reference  |  copies  |   reference       |  copies
                           ^ start                                               ^ end

A reference is charged to the common memory by its part that waits, though the object stays alive as a whole; whoever
does not want that writes a ``bytearray``. When everything is acknowledged the buffer goes back to its ring.
"""

from bisect import bisect_right
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


Piece: TypeAlias = tuple[int, memoryview, int]  # the first number, its bytes from there on, memory it is charged with


class References:
    """Pieces from the number ``start`` to ``end``, without gaps; ``charged`` bytes of memory are theirs."""

    __slots__ = ("_block", "_ends", "_filled", "_memory", "_pieces", "charged", "end", "start")

    def __init__(self, memory: Memory, start: int) -> None:
        self._memory = memory
        self._pieces: list[Piece] = []
        self._ends: list[int] = []  # of each piece, to find one by
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
        self._charge(len(view))
        self._block = _FULL
        self._filled = 0
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
                self._charge(size)
                self._filled = 0
                self._add(self._block[:0], size)
            part = view[: len(self._block) - self._filled]
            view = view[len(part) :]
            self._copy(part)
        return self.end - start

    def _charge(self, size: int) -> None:
        granted = self._memory.charge(0, size)
        assert granted  # the buffer had asked

    def _add(self, view: memoryview, charge: int) -> None:
        self._pieces.append((self.end, view, charge))
        self.charged += charge
        self.end += len(view)
        self._ends.append(self.end)

    def _copy(self, part: memoryview) -> None:
        """Let the last piece go on with ``part``, for which its memory has room."""
        end = self._filled + len(part)
        self._block[self._filled : end] = part
        self._filled = end
        start, _, charge = self._pieces[-1]
        self._pieces[-1] = start, self._block[:end], charge
        self.end += len(part)
        self._ends[-1] = self.end

    def views(self, seq: int, n: int) -> list[memoryview]:
        """The ``n`` bytes from ``seq`` on, uncopied (none when ``n`` is 0)."""
        i = bisect_right(self._ends, seq)
        if n > 0 and seq + n <= self._ends[i]:  # nearly always
            start, view, _ = self._pieces[i]
            return [view[seq - start : seq - start + n]]
        found: list[memoryview] = []
        while n > 0:
            start, view, _ = self._pieces[i]
            part = view[seq - start : seq - start + n]
            found.append(part)
            n -= len(part)
            seq += len(part)
            i += 1
        return found

    def release(self, una: int) -> None:
        """Let go of the pieces that end at or below ``una``."""
        gone = bisect_right(self._ends, una)
        if gone:
            for _, _, charge in self._pieces[:gone]:
                self._memory.credit(charge)
                self.charged -= charge
            del self._pieces[:gone], self._ends[:gone]
            self.start = self._pieces[0][0] if self._pieces else self.end
