"""A link made of a function that gives frames, and who reads all of them."""

from collections.abc import Callable

from usertcp.frame import FrameMeta
from usertcp.link.base import Link
from usertcp.net.stack import Stack


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


def read_all(stack: Stack, take: Callable[[], tuple[memoryview, FrameMeta] | None], now: int) -> int:
    """Let ``stack`` have all that ``take`` gives, as the pump does it; how many frames it received by themselves."""
    source, single, dry = Reading(take), 0, False
    while not dry:
        got, _, _, dry = stack.follow(source, lambda: now, 1000, 1 << 30)
        if got is not None:
            stack.receive(got[0], now, got[1])
            single += 1
    return single
