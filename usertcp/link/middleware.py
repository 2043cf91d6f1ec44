"""What can be put between a stack and a link: a recorder, an observer, a bad network.

A middleware is itself a link and hands everything on to the one inside it. It sees frames in both directions, knows
the time of the turn from ``tick`` and never reads a clock. Frames are borrowed; what is kept is copied.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Self

from usertcp.frame import FrameMeta
from usertcp.link.base import IN, OUT, Link, Middleware
from usertcp.link.faults import Corrupt, Delay, Drop, Duplicate, Faults, Reorder, Rule
from usertcp.link.pcap import ETHERNET, RAW, Writer

_log: Final = logging.getLogger("usertcp")

__all__ = [
    "Corrupt",
    "Delay",
    "Drop",
    "Duplicate",
    "Faults",
    "Middleware",
    "Observe",
    "Pcap",
    "Reorder",
    "Rule",
]


class Onlooker(Middleware):
    """Tells somebody of each frame. When that fails (an exception, a full disk) it says so once, and tells no more: the
    frames pass all the same."""

    def __init__(self, inner: Link) -> None:
        super().__init__(inner)
        self._looks = True

    def _told(self, direction: str, *parts: bytes | bytearray | memoryview) -> None:
        """Told of a frame, which is ``parts`` in a row."""

    def _tell(self, direction: str, *parts: bytes | bytearray | memoryview) -> None:
        if self._looks:
            try:
                self._told(direction, *parts)
            except Exception as error:
                self._looks = False
                with suppress(Exception):  # a handler of logs may fail as well
                    _log.error("%s: no more frames are recorded or observed: %r", self.name, error)

    def read(self) -> tuple[memoryview, FrameMeta] | None:
        item = self.inner.read()
        if item is not None:
            self._tell(IN, item[0])
        return item


class Pcap(Onlooker):
    """Records both directions. ``epoch_offset`` (ns) is added to the driver's time to give the time of day.

    With offloads the capture shows what crosses the boundary: super-segments, and checksums left to the device.
    """

    def __init__(self, inner: Link, writer: Writer, epoch_offset: int = 0) -> None:
        super().__init__(inner)
        self.writer = writer
        self.epoch_offset = epoch_offset
        self._file: BinaryIO | None = None

    @classmethod
    def open(cls, inner: Link, path: str | Path, epoch_offset: int = 0) -> Self:
        """Record into a new file, which is closed with the link. OSError if it cannot be written."""
        file = open(path, "wb")  # noqa: SIM115  (closed in close)
        link = cls(inner, Writer(file, RAW if inner.caps.mac is None else ETHERNET), epoch_offset)
        link._file = file
        return link

    def _told(self, direction: str, *parts: bytes | bytearray | memoryview) -> None:
        self.writer.write(self.now + self.epoch_offset, *parts)

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        if not self.inner.send(header, payload, meta):
            return False
        self._tell(OUT, header, *payload)
        return True

    def close(self) -> None:
        super().close()
        file = self._file
        if file is None or not file.closed:
            with suppress(OSError):  # the disk is full
                self.writer.flush()
        if file is not None:
            with suppress(OSError):
                file.close()


class Observe(Onlooker):
    """Calls ``on_frame(direction, frame, now)`` with a copy of each frame; ``direction`` is "in" or "out"."""

    def __init__(self, inner: Link, on_frame: Callable[[str, bytes, int], None]) -> None:
        super().__init__(inner)
        self.on_frame = on_frame

    def _told(self, direction: str, *parts: bytes | bytearray | memoryview) -> None:
        self.on_frame(direction, b"".join(parts), self.now)

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        frame = b"".join((header, *payload))  # before it is sent: the views may change hands
        if not self.inner.send(header, payload, meta):
            return False
        self._tell(OUT, frame)
        return True
