"""A link made of a function that gives frames."""

from collections.abc import Callable

from usertcp.frame import FrameMeta
from usertcp.link.base import Link


class Reading(Link):
    """What ``take`` gives can be read, and nothing can be sent."""

    def __init__(self, take: Callable[[], tuple[memoryview, FrameMeta] | None]) -> None:
        self._take = take

    def read(self) -> tuple[memoryview, FrameMeta] | None:
        return self._take()

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        raise AssertionError("nobody sends here")

    def close(self) -> None:
        """There is nothing to close."""
