"""Decisions out of bytes: how a fuzzer's input becomes a story.

An input is a sequence of *records* of a fixed size, so that to remove, double or swap one leaves the others as they
are; what a target reads beyond the end of a record, or of the input, is zeros. The same bytes always make the same
story, with atheris or without it.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

T = TypeVar("T")

RECORD: Final = 16  # bytes


class Feed:
    """Bytes, read from the front; zeros when they are used up."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        """The next one, 0 to 255."""
        at = self._at
        self._at = at + 1
        return self._data[at] if at < len(self._data) else 0

    def number(self, size: int = 2) -> int:
        """The next ``size`` bytes as a number."""
        number = 0
        for _ in range(size):
            number = number << 8 | self.byte()
        return number

    def signed(self) -> int:
        """The next two bytes as a number from -32768 to 32767."""
        number = self.number()
        return number - (1 << 16) if number >> 15 else number

    def choice(self, items: Sequence[T]) -> T:
        """One of ``items``, by the next byte."""
        return items[self.byte() % len(items)]

    def flag(self) -> bool:
        """Yes or no, by the next byte."""
        return bool(self.byte() & 1)

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes, fewer at the end."""
        at = self._at
        self._at = at + size
        return self._data[at : at + size]

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(max(len(self._data) - self._at, 0))


def records(data: bytes, most: int) -> Iterator[Feed]:
    """The records of ``data``, ``most`` at most."""
    for at in range(0, min(len(data), most * RECORD), RECORD):
        yield Feed(data[at : at + RECORD])
