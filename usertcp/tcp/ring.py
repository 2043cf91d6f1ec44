"""Memory in which every sequence number has its place: byte ``s`` lies at ``buf[s - base & mask]``.

The capacity is a power of two, so the place follows from the number alone: nothing moves when the window slides, and
data that comes out of order is written where it will be read. What was empty begins anew at index 0 (``base``), so that
who empties it each time goes on in memory that is still in the cache, and finds it in one piece::

      numbers    lo                 hi          (hi - lo <= capacity)
                 v                  v
      line   ----[==================)--------------
      buf    [=======)  [===========]           what passes the end goes on at index 0: one or two pieces
             0       ^  ^           capacity
                     hi and lo, less base, & mask

The ring knows neither which bytes are valid nor how many are wanted at most; its owner (``buffers``) does. Views of it
may be out while it grows or is released: it then takes new memory and leaves the old to them, and never resizes. What
it takes is charged to the budget of all (``memory``), which may refuse.
"""

from typing import Final, TypeAlias

from usertcp.tcp.memory import MAX_KEPT, MIN_CAPACITY, Memory

Buffer: TypeAlias = bytes | bytearray | memoryview  # memoryviews of bytes: one dimension, format "B"

_NONE: Final = memoryview(bytearray())  # no memory; writable, so that nothing may be written to it


class Ring:
    """Bytes addressed by sequence number; ``capacity`` in bytes, 0 until something is reserved."""

    __slots__ = ("_base", "_mask", "_next", "_view", "capacity", "memory")

    def __init__(self, memory: Memory | None = None) -> None:
        """``memory``: the budget; None: no bound."""
        self.memory = memory if memory is not None else Memory()
        self._view = _NONE
        self._base = self._mask = 0
        self._next = 0  # how large to begin after a release, bytes
        self.capacity = 0

    def __del__(self) -> None:
        """Whoever forgets a connection with unread bytes gives its memory back, and so its charge."""
        self.memory.credit(self.capacity)

    def reserve(self, lo: int, hi: int) -> bool:
        """Make room for the numbers ``[lo, hi)`` at once; what was written at ``lo`` and above stays. False: there is
        no memory for that, and nothing changed.

        Grows to the power of two that is needed, so that n bytes cost at most 2n moves however small the steps. After a
        release it begins with what it had, or with half of that when that was not outgrown: under bulk transfer, which
        empties buffers all the time, growth is not repeated, and one byte later on does not cost a megabyte for long.
        """
        capacity = self.capacity
        if hi - lo <= capacity:
            return True
        memory = self.memory
        if not capacity and hi - lo <= MIN_CAPACITY >= self._next and (view := memory.take_spare()) is not None:
            self._next = MIN_CAPACITY >> 1
            self.capacity = MIN_CAPACITY
            self._base, self._mask = lo, MIN_CAPACITY - 1
            self._view = view
            return True
        needed = max(MIN_CAPACITY, 1 << (hi - lo - 1).bit_length())
        wanted = needed if capacity or memory.pressed else max(needed, self._next)
        if not memory.charge(capacity, wanted):
            if wanted == needed or not memory.charge(capacity, needed):
                return False
            wanted = needed
        if not self._move(lo, self.views(lo, capacity), wanted):
            memory.credit(wanted - capacity)
            return False
        self._next = wanted if capacity else wanted >> 1
        return True

    def _move(self, lo: int, kept: list[memoryview], capacity: int) -> bool:
        """Go on in new memory of ``capacity`` bytes, with what was at the numbers from ``lo`` on. False: there is none,
        on this machine, and nothing changed."""
        view = self.memory.kept.pop(capacity, None)
        if view is None:
            try:
                view = memoryview(bytearray(capacity))
            except MemoryError:
                return False
        self._view = view
        self.capacity = capacity
        self._base, self._mask = lo, capacity - 1
        for piece in kept:
            self.write(lo, piece)
            lo += len(piece)
        return True

    def fit(self, lo: int, hi: int) -> None:
        """Give back what the numbers ``[lo, hi)`` do not need: all that is held is among them."""
        needed = max(self.memory.minimum, 1 << max(hi - lo - 1, 0).bit_length())
        surplus = self.capacity - needed
        if surplus > 0 and self._move(lo, self.views(lo, min(hi - lo, needed)), needed):
            self.memory.credit(surplus)

    def release(self) -> None:
        """Give the memory back; it is kept, one of each size, for the next who needs as much. Views of it are not read
        any more: what is written was sent, or copied, when the call that borrowed it returned."""
        capacity = self.capacity
        if capacity:
            view = self._view
            self._mask = self.capacity = 0  # first: what an interrupt breaks off here is not given back twice
            self._view = _NONE
            if capacity == MIN_CAPACITY == len(view):
                self.memory.give_back(view)
            else:
                self.memory.credit(capacity)
                if 0 < len(view) <= MAX_KEPT:
                    self.memory.kept[len(view)] = view

    def write(self, seq: int, data: Buffer) -> None:
        """Copy ``data`` to the numbers from ``seq`` on; the room must be reserved."""
        i = seq - self._base & self._mask
        end = i + len(data)
        capacity = self.capacity
        if end <= capacity:
            self._view[i:end] = data
        else:
            data = memoryview(data)
            self._view[i:] = data[: capacity - i]
            self._view[: end - capacity] = data[capacity - i :]

    def views(self, seq: int, n: int) -> list[memoryview]:
        """The ``n`` bytes from ``seq`` on, uncopied, in one piece or two; good until their places are written."""
        i = seq - self._base & self._mask
        end = i + n
        capacity = self.capacity
        if end <= capacity:
            return [self._view[i:end]]
        return [self._view[i:], self._view[: end - capacity]]

    def read_into(self, seq: int, target: bytearray | memoryview) -> None:
        """Fill the whole of ``target`` with the bytes from ``seq`` on."""
        i = seq - self._base & self._mask
        end = i + len(target)
        capacity = self.capacity
        if end <= capacity:
            target[:] = self._view[i:end]
        else:
            target[: capacity - i] = self._view[i:]
            target[capacity - i :] = self._view[: end - capacity]

    def copy(self, seq: int, n: int) -> bytes:
        """A copy of the ``n`` bytes from ``seq`` on."""
        i = seq - self._base & self._mask
        end = i + n
        capacity = self.capacity
        if end <= capacity:
            return self._view[i:end].tobytes()
        return b"".join((self._view[i:], self._view[: end - capacity]))
