"""Which bytes have arrived: a set of ints kept as sorted, disjoint, half-open ranges.

Ranges that touch are one range, so the set of a window with g gaps takes g + 1 pairs, however many segments it came in.
Starts and ends are two parallel sorted lists, searched by bisection. The set holds numbers, never the bytes themselves.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class RangeSet:
    """A set of ints; ``total`` is how many."""

    __slots__ = ("_ends", "_starts", "total")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []
        self.total = 0

    def __len__(self) -> int:
        """The number of ranges (0: the set is empty); the number of ints is ``total``."""
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges ``(start, end)``, ascending."""
        return zip(self._starts, self._ends, strict=True)

    def __contains__(self, number: int) -> bool:
        return self.around(number) is not None

    @property
    def first(self) -> tuple[int, int] | None:
        """The lowest range; None when the set is empty."""
        return (self._starts[0], self._ends[0]) if self._starts else None

    def around(self, number: int) -> tuple[int, int] | None:
        """The range that ``number`` is in, or None: what a SACK reports first (RFC 2018 §4)."""
        i = bisect_right(self._starts, number) - 1
        if i >= 0 and number < self._ends[i]:
            return self._starts[i], self._ends[i]
        return None

    def overlapping(self, start: int, end: int) -> tuple[int, int] | None:
        """The first range that has a number of ``[start, end)``, or None."""
        i = bisect_right(self._ends, start)
        if i < len(self._starts) and self._starts[i] < end:
            return self._starts[i], self._ends[i]
        return None

    def touches(self, start: int, end: int) -> bool:
        """Whether adding ``[start, end)`` would make no new range."""
        return bisect_left(self._ends, start) < bisect_right(self._starts, end)

    def add(self, start: int, end: int) -> int:
        """Put ``[start, end)`` in; return how many ints were not in the set before."""
        if start >= end:
            return 0
        starts, ends = self._starts, self._ends
        i = bisect_left(ends, start)  # the first range that ends at start or later
        j = bisect_right(starts, end)  # the first range that starts after end: [i:j] overlap or touch, and become one
        new = end - start
        if i < j:
            start = min(start, starts[i])
            end = max(end, ends[j - 1])
            new = end - start - sum(ends[i:j]) + sum(starts[i:j])
        starts[i:j] = [start]
        ends[i:j] = [end]
        self.total += new
        return new

    def remove_below(self, number: int) -> None:
        """Take out every int below ``number``."""
        starts, ends = self._starts, self._ends
        i = bisect_right(ends, number)  # the first range that reaches beyond number
        self.total -= sum(ends[:i]) - sum(starts[:i])
        del starts[:i], ends[:i]
        if starts and starts[0] < number:
            self.total -= number - starts[0]
            starts[0] = number

    def remove(self, start: int, end: int) -> None:
        """Take every int of ``[start, end)`` out."""
        if start >= end:
            return
        starts, ends = self._starts, self._ends
        i = bisect_right(ends, start)  # the first range that reaches beyond start
        j = bisect_left(starts, end)  # the first range that starts at end or later: [i:j] are cut
        if i >= j:
            return
        self.total -= sum(ends[i:j]) - sum(starts[i:j])
        rest = [(low, high) for low, high in ((starts[i], start), (end, ends[j - 1])) if low < high]
        starts[i:j] = [low for low, _ in rest]
        ends[i:j] = [high for _, high in rest]
        self.total += sum([high - low for low, high in rest])

    def clear(self) -> None:
        """Take everything out."""
        self._starts.clear()
        self._ends.clear()
        self.total = 0
