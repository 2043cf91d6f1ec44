"""Two links joined back to back in memory.

What one end sends, the other reads, in order and unchanged, up to ``capacity`` waiting frames; beyond that ``send``
answers False, as a full device would. Frames are copied once. Offloads are passed along as a virtual device does:
a super-segment arrives whole, and a checksum that was left to the device counts as valid, because it never left this
machine. Time, loss and delay are not here: wrap an end in :class:`usertcp.link.middleware.Faults`.
"""

import errno
import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from usertcp.errors import os_error
from usertcp.frame import PLAIN, FrameMeta, LinkCaps
from usertcp.link.base import Link

CAPACITY: Final = 1024  # frames waiting in one direction
MACS: Final = (b"\x02\x00\x00\x00\x00\x01", b"\x02\x00\x00\x00\x00\x02")  # locally administered


class MemoryLink(Link):
    """One end of a pair; made by :func:`memory_pair`.

    ``on_readable``  called, in the sender's thread, when a frame was put in: how a driver without a descriptor wakes
    """

    def __init__(self, name: str, caps: LinkCaps, capacity: int, pollable: bool) -> None:
        self.name = name
        self.caps = caps
        self.capacity = capacity
        self.peer: MemoryLink | None = None
        self.on_readable: Callable[[], None] | None = None
        self._frames: deque[tuple[bytes, FrameMeta]] = deque()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if pollable else -1
        self._closed = False
        self._latest = PLAIN  # what the latest frame from here went with

    def fileno(self) -> int:
        return self._event

    def __len__(self) -> int:
        """Frames that wait to be read here."""
        return len(self._frames)

    def read(self) -> tuple[memoryview, FrameMeta] | None:
        if not self._frames:
            if self._closed or self.peer is None:
                raise os_error(errno.ENETDOWN)
            if self._event >= 0:
                with suppress(BlockingIOError):
                    os.eventfd_read(self._event)
            if not self._frames:  # looked at again: a frame may have come before the event was cleared
                return None
        frame, meta = self._frames.popleft()
        return memoryview(frame), meta

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        peer = self.peer
        if peer is None or peer._closed:
            return True  # the cable hangs loose: what is sent is lost
        if len(peer._frames) >= peer.capacity:
            return False
        if meta is not PLAIN:
            meta = self._received(meta)
        peer._frames.append((b"".join((header, *payload)), meta))
        if peer._event >= 0:
            os.eventfd_write(peer._event, 1)
        if peer.on_readable is not None:
            peer.on_readable()
        return True

    def _received(self, sent: FrameMeta) -> FrameMeta:
        """What a frame that was sent with ``sent`` comes with; of a stream always the same object, as of a device."""
        meta = self._latest
        offloaded = bool(sent.csum_start) or sent.csum_valid
        if meta.gso_size != sent.gso_size or meta.csum_valid != offloaded:
            meta = self._latest = (
                FrameMeta(sent.gso_size, csum_valid=offloaded) if offloaded or sent.gso_size else PLAIN
            )
        return meta

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._frames.clear()
        if self._event >= 0:
            event, self._event = self._event, -1
            os.close(event)
        if self.peer is not None:
            self.peer.peer, self.peer = None, None


def memory_pair(
    *, mtu: int = 1500, offload: bool = False, capacity: int = CAPACITY, pollable: bool = False, ethernet: bool = True
) -> tuple[MemoryLink, MemoryLink]:
    """Two ends of one cable. ``capacity`` in frames each way; ``pollable`` gives each end an eventfd to wait on."""
    ends = [
        MemoryLink(name, LinkCaps(mtu, mac if ethernet else None, offload, offload), capacity, pollable)
        for name, mac in zip(("memory0", "memory1"), MACS, strict=True)
    ]
    ends[0].peer, ends[1].peer = ends[1], ends[0]
    return ends[0], ends[1]
