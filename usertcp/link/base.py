"""What every link is.

A link carries whole frames between a stack and the world: a kernel device, a queue in memory, a callable. It is the
:class:`~usertcp.frame.Sink` that the stack sends to and the source that the driver reads from. Nothing here blocks:
``read`` answers None when nothing waits and ``send`` answers False when the device is full, and the driver decides how
to wait. A link knows nothing of addresses, routes or TCP; its frames are Ethernet, or bare IP packets where
``caps.mac`` is None.

Borrowed until return: what ``read`` gives is valid until the next ``read``; what ``send`` is given belongs to the
caller again when it returns.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from types import TracebackType
from typing import Final, Self

from usertcp.frame import NO_MORE, NOT_ASKED, FrameMeta, LinkCaps, Run
from usertcp.units import NEVER

IN: Final = "in"  # from the network to the stack
OUT: Final = "out"  # from the stack to the network


class Link(ABC):
    """One device, or middleware over one. Used by a single thread at a time.

    ``name``  for messages: the interface's name where there is one
    ``caps``  what the link can do; read once by the stack that is put on it
    ``lack``  which offload the device was asked for and does not have, in words; "": none
    """

    name: str
    caps: LinkCaps
    lack: str = ""
    _whole: memoryview | None = None  # what was not as foretold, by a link that reads frames in one piece

    def fileno(self) -> int:
        """The descriptor that polls readable when a frame waits; -1 for a link that has none."""
        return -1

    def tick(self, now: int) -> None:  # noqa: B027  (most links have no use for the time)
        """A turn of the driver begins at ``now`` (ns)."""

    @abstractmethod
    def read(self) -> tuple[memoryview, FrameMeta] | None:
        """The next frame and what goes with it, borrowed until the next call; None when nothing waits.

        Raises OSError(ENETDOWN) when the device is gone.
        """

    def read_run(self, run: Run, place: memoryview, frames: int, until: int) -> None:
        """Read frames as long as they are as foretold: see :class:`usertcp.frame.Source`."""
        read, sizes, front = self.read, run.sizes, len(run.front)
        count = at = last = 0
        run.odd = NOT_ASKED
        try:
            while count < frames and at <= until:
                got = read()
                if got is None:
                    run.odd = NO_MORE
                    break
                frame, meta = got
                known = sizes.get(len(frame))
                lead = meta.gso_size << 1 | meta.csum_valid
                number = lead << 8 * front | int.from_bytes(frame[:front]) | run.free
                if known is None or number != run.head + known[1]:
                    self._put_apart(run, frame, meta, lead, place[at:])
                    break
                last = known[0]
                place[at : at + last] = frame[front : front + last]
                run.head += known[2]
                at += last
                count += 1
        finally:
            run.count, run.at, run.last = count, at, last

    def _put_apart(self, run: Run, frame: memoryview, meta: FrameMeta, lead: int, place: memoryview) -> None:
        """``frame``, which was read in one piece, is not as foretold."""
        self._whole = frame
        front = len(run.front)
        text = frame[front : front + len(place)]
        run.front[: min(front, len(frame))] = frame[:front]
        place[: len(text)] = text
        run.odd, run.its, run.lead = len(frame), meta, lead

    def rejoin(self, run: Run, place: memoryview) -> memoryview:
        """The frame that was not as foretold, in one piece, borrowed until the next is read."""
        assert self._whole is not None
        return self._whole

    @abstractmethod
    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        """Take one frame. False: not taken. A frame that the device loses (it is down) was taken."""

    def next_deadline(self) -> int:
        """When ``tick`` has something to do (ns)."""
        return NEVER

    def set_offload(self, on: bool) -> None:  # noqa: B027  (most links have none)
        """Ask the device for frames as they would be on a wire: one segment each, with its checksum (``on`` false)."""

    @abstractmethod
    def close(self) -> None:
        """Let the device go. Closing twice is harmless."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Middleware(Link):
    """A link that hands everything on to ``inner``; closing it closes ``inner``."""

    def __init__(self, inner: Link) -> None:
        self.inner = inner
        self.name = inner.name
        self.caps = replace(inner.caps, host=None)  # what looks at frames knows only those that say how long they are
        self.lack = inner.lack
        self.now = 0  # ns; the last tick

    def fileno(self) -> int:
        return self.inner.fileno()

    def tick(self, now: int) -> None:
        self.now = now
        self.inner.tick(now)

    def read(self) -> tuple[memoryview, FrameMeta] | None:
        return self.inner.read()

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        return self.inner.send(header, payload, meta)

    def next_deadline(self) -> int:
        return self.inner.next_deadline()

    def set_offload(self, on: bool) -> None:
        self.inner.set_offload(on)
        self.caps = replace(self.inner.caps, host=None)

    def close(self) -> None:
        self.inner.close()
