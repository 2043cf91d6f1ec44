"""A link whose other side is the caller's own code.

Frames that the stack sends are handed to a callable; frames for the stack are put in with ``deliver``. This is how a
test plays the peer by hand, and how usertcp sits on a transport of which it knows nothing (a tunnel, a radio, a pipe).
"""

import errno
from collections import deque
from collections.abc import Callable

from usertcp.errors import os_error
from usertcp.frame import PLAIN, FrameMeta, LinkCaps
from usertcp.link.base import Link

Send = Callable[[bytes, FrameMeta], bool | None]


class CallbackLink(Link):
    """``send(frame, meta)`` gets a copy of each outgoing frame; False means not taken, None and True mean taken.

    ``on_readable``  called when a frame was delivered: how a driver without a descriptor wakes
    """

    def __init__(self, send: Send, caps: LinkCaps | None = None, name: str = "callback") -> None:
        self.name = name
        self.caps = caps if caps is not None else LinkCaps(mac=b"\x02\x00\x00\x00\x00\x01")
        self.on_readable: Callable[[], None] | None = None
        self._send = send
        self._frames: deque[tuple[bytes, FrameMeta]] = deque()
        self._closed = False

    def deliver(self, frame: bytes | bytearray | memoryview, meta: FrameMeta = PLAIN) -> None:
        """A frame from the network for the stack; copied unless it is ``bytes``."""
        self._frames.append((bytes(frame), meta))
        if self.on_readable is not None:
            self.on_readable()

    def read(self) -> tuple[memoryview, FrameMeta] | None:
        if not self._frames:
            if self._closed:
                raise os_error(errno.ENETDOWN)
            return None
        frame, meta = self._frames.popleft()
        return memoryview(frame), meta

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        return self._closed or self._send(b"".join((header, *payload)), meta) is not False

    def close(self) -> None:
        self._closed = True
