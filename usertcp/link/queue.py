"""The queue in front of a busy transmitter, and the plainest discipline: drop-tail.

A discipline decides about a frame when it comes (:meth:`Queue.push`) or when its turn has come (:meth:`Queue.pop`):
pass it, drop it, or mark it (``usertcp.link.mark``). Sizes are bytes on the wire. The frame that is being sent has left
the queue, as it has a kernel's.

Drop-tail decides by one number, how many bytes wait. It is what most of the network has; its queue stays as full as the
senders keep it, and it strikes many of them at once (RFC 7567 §2).
"""

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from usertcp.frame import FrameMeta
from usertcp.link.mark import mark
from usertcp.units import KIB

Item: TypeAlias = tuple[int, int, bytes, FrameMeta]  # (when it came, wire bytes, frame, meta)


class Queue:
    """First in, first out, up to ``limit`` bytes: drop-tail. The other disciplines are its subclasses.

    ``ecn``    mark frames that allow it, where the discipline would drop before the queue is full
    ``items``  what waits; ``size``: that in bytes
    ``drops``, ``marks``  how many frames it dropped and marked
    """

    __slots__ = ("drops", "ecn", "items", "limit", "marks", "size")

    def __init__(self, limit: int, ecn: bool = False) -> None:
        self.limit = limit
        self.ecn = ecn
        self.items: deque[Item] = deque()
        self.size = 0
        self.drops = 0
        self.marks = 0

    def push(self, size: int, frame: bytes, meta: FrameMeta, now: int) -> None:
        """A frame comes: it waits from now on, or is dropped."""
        if self.size + size > self.limit:
            self.drops += 1
            return
        self.size += size
        self.items.append((now, size, frame, meta))

    def pop(self, now: int) -> Item | None:
        """The transmitter takes the next frame; None if none is left."""
        if not self.items:
            return None
        item = self.items.popleft()
        self.size -= item[1]
        return item

    def marked(self, frame: bytes) -> bytes | None:
        """The frame marked instead of dropped, and counted; None: it has to be dropped, and is counted so."""
        changed = mark(frame) if self.ecn else None
        if changed is None:
            self.drops += 1
        else:
            self.marks += 1
        return changed


@dataclass(frozen=True, slots=True)
class DropTail:
    """Drop-tail: what does not fit into ``limit`` bytes is lost."""

    limit: int = 256 * KIB

    def start(self, rate: int, ecn: bool, random: Random) -> Queue:
        """The queue at work, in front of a transmitter of ``rate`` bit/s."""
        return Queue(self.limit, ecn)
