"""One direction of a network path: what a frame meets between two ends.

::

    admit --> loss --> duplicate --> queue --> transmitter --> propagation --> due
              chance,                drop-tail,  rate            delay, jitter, and a
              bursts,                RED,                        late share: reordering
              outage                 CoDel

Frames leave in the order in which they came, but for those that are made late on purpose, which others overtake. What
strikes a frame is drawn from a generator that was handed in, and each kind of fault draws from a stream of its own, so
that the same seed and the same frames give the same outcome and one more kind does not move the strikes of the others.

It does no I/O and knows no clock: ``now`` (ns) is a parameter and never goes back. What happened between two calls is
worked out at the later one, at the times at which it happened; so a caller that comes late gets frames late, but the
queue's decisions stay those of a transmitter that was on time. One object is one direction; rules for data or for
acknowledgments alone are rules of one direction. Sizes count Ethernet's header and no preamble or frame check sequence;
a super-segment is taken whole, and takes the time of the frames that it stands for.
"""

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from random import Random
from typing import Final, TypeAlias

from usertcp.frame import PLAIN, FrameMeta
from usertcp.link.loss import Loss, NoLoss, share
from usertcp.link.queue import DropTail
from usertcp.link.queue_codel import CoDel
from usertcp.link.queue_red import Red
from usertcp.units import NEVER, SEC

Discipline: TypeAlias = DropTail | Red | CoDel

DEEP: Final = DropTail()
CLEAN: Final = NoLoss()
HEADERS: Final = 66  # bytes; Ethernet, IPv4 and TCP with timestamps: of a super-segment that does not say


@dataclass(frozen=True, slots=True)
class Reorder:
    """A share ``p`` of the frames arrives late, each by up to ``by`` ns (evenly drawn), and is overtaken meanwhile."""

    p: float
    by: int

    def __post_init__(self) -> None:
        share("p", self.p)
        if self.by < 1:
            raise ValueError(f"a late frame is late by at least 1 ns, not {self.by!r}")


@dataclass(frozen=True, slots=True)
class PathConfig:
    """What the path is like.

    ``rate``       of the transmitter, bit/s; 0: infinite, and nothing ever waits
    ``delay``      of propagation, ns
    ``queue``      the discipline in front of the transmitter
    ``ecn``        RED and CoDel mark frames that allow it, instead of dropping them (RFC 3168 §5)
    ``loss``       what is lost in any case
    ``reorder``    what arrives late
    ``duplicate``  the share of frames that are there twice
    ``jitter``     each frame is up to so much later, evenly drawn, ns; order is kept
    """

    rate: int = 0
    delay: int = 0
    queue: Discipline = DEEP
    ecn: bool = False
    loss: Loss = CLEAN
    reorder: Reorder | None = None
    duplicate: float = 0.0
    jitter: int = 0

    def __post_init__(self) -> None:
        share("duplicate", self.duplicate)
        if self.rate < 0 or self.delay < 0 or self.jitter < 0:
            raise ValueError("neither rate nor delay nor jitter is negative")


def wire_size(frame: bytes, meta: FrameMeta) -> int:
    """Bytes that the frame is on a wire: a super-segment's headers go before each of its segments."""
    size = len(frame)
    if not meta.gso_size:
        return size
    header = meta.header_len or HEADERS
    segments = max((size - header + meta.gso_size - 1) // meta.gso_size, 1)
    return size + (segments - 1) * header


class Path:
    """One direction at work.

    ``lost``        frames lost by the loss model
    ``late``        frames made late
    ``sent``        frames that the transmitter has taken; ``sent_bytes``: on the wire
    ``delay_sum``   of the time that those waited in the queue, ns; ``delay_max``: the longest
    ``record``      a list that gets the time that each frame waited, ns; None: none
    """

    __slots__ = (
        "_flying",
        "_free_at",
        "_late",
        "_loss",
        "_order",
        "_random_copies",
        "_random_jitter",
        "_random_late",
        "_remainder",
        "config",
        "delay_max",
        "delay_sum",
        "late",
        "lost",
        "queue",
        "record",
        "sent",
        "sent_bytes",
    )

    def __init__(self, config: PathConfig, random: Random) -> None:
        self.config = config
        streams = [Random(random.getrandbits(64)) for _ in range(5)]
        of_loss, of_queue, self._random_late, self._random_copies, self._random_jitter = streams
        self.queue = config.queue.start(config.rate, config.ecn, of_queue)
        self._loss = config.loss.start(of_loss)
        self._free_at = 0  # when the transmitter is done with what it took
        self._remainder = 0  # of a nanosecond that this is late, in 1/rate ns
        self._flying: deque[tuple[int, bytes, FrameMeta]] = deque()  # (arrival, ...) in order
        self._late: list[tuple[int, int, bytes, FrameMeta]] = []  # a heap, by arrival and order
        self._order = 0
        self.lost = self.late = self.sent = self.sent_bytes = 0
        self.delay_sum = self.delay_max = 0
        self.record: list[int] | None = None

    @property
    def drops(self) -> int:
        """Frames that the queue dropped."""
        return self.queue.drops

    @property
    def marks(self) -> int:
        """Frames that the queue marked."""
        return self.queue.marks

    def admit(self, frame: bytes, meta: FrameMeta = PLAIN, now: int = 0) -> None:
        """A frame enters at ``now``; the path keeps it."""
        config = self.config
        if self._loss is not None and self._loss.loses(now):
            self.lost += 1
            return
        if config.duplicate and self._random_copies.random() < config.duplicate:
            self._enter(frame, meta, now)
        self._enter(frame, meta, now)

    def due(self, now: int) -> list[tuple[bytes, FrameMeta]]:
        """What has arrived at the far end by ``now``, in the order of arrival."""
        queue = self.queue
        if queue.items and self._free_at <= now:
            self._serve(now)
        arrived: list[tuple[bytes, FrameMeta]] = []
        flying, late = self._flying, self._late
        while True:
            if flying and flying[0][0] <= now and not (late and late[0][0] < flying[0][0]):
                _, frame, meta = flying.popleft()
            elif late and late[0][0] <= now:
                _, _, frame, meta = heappop(late)
            else:
                return arrived
            arrived.append((frame, meta))

    def next_deadline(self) -> int:
        """When ``due`` is to be called next (ns): nothing arrives before; NEVER: the path is empty."""
        at = NEVER
        if self._flying:
            at = self._flying[0][0]
        elif self.queue.items:  # all that was sent is late
            at = self._free_at + self.config.delay
        if self._late:
            at = min(at, self._late[0][0])
        return at

    def backlog(self, now: int) -> int:
        """Bytes that wait at ``now``."""
        if self.queue.items and self._free_at <= now:
            self._serve(now)
        return self.queue.size

    def has_room(self, size: int, now: int) -> bool:
        """Whether the queue would take ``size`` bytes at ``now``, as far as that depends on its limit."""
        return not self.config.rate or self.backlog(now) + size <= self.queue.limit

    def _enter(self, frame: bytes, meta: FrameMeta, now: int) -> None:
        size = wire_size(frame, meta) if meta.gso_size else len(frame)
        if not self.config.rate:
            self.sent += 1
            self.sent_bytes += size
            if self.record is not None:
                self.record.append(0)
            self._fly(now, frame, meta)
            return
        queue = self.queue
        if queue.items and self._free_at <= now:
            self._serve(now)
        queue.push(size, frame, meta, now)
        if self._free_at <= now:
            self._serve(now)

    def _serve(self, now: int) -> None:
        """Let the transmitter take what it would have taken by ``now``, each frame when it was free for it."""
        queue, rate = self.queue, self.config.rate
        items = queue.items
        while items and self._free_at <= now:
            at = self._free_at
            if at < items[0][0]:  # it was idle when the frame came
                at = items[0][0]
                self._remainder = 0
            item = queue.pop(at)
            if item is None:
                return
            came, size, frame, meta = item
            waited = at - came
            self.sent += 1
            self.sent_bytes += size
            self.delay_sum += waited
            if waited > self.delay_max:
                self.delay_max = waited
            if self.record is not None:
                self.record.append(waited)
            took, self._remainder = divmod(size * 8 * SEC + self._remainder, rate)
            self._free_at = at + took
            self._fly(self._free_at, frame, meta)

    def _fly(self, at: int, frame: bytes, meta: FrameMeta) -> None:
        """The last bit left the transmitter at ``at``."""
        config = self.config
        at += config.delay
        if config.jitter:
            at += int(self._random_jitter.random() * config.jitter)
            if self._flying and at < self._flying[-1][0]:
                at = self._flying[-1][0]
        reorder = config.reorder
        if reorder is not None and self._random_late.random() < reorder.p:
            self.late += 1
            self._order += 1
            heappush(self._late, (at + 1 + int(self._random_late.random() * reorder.by), self._order, frame, meta))
        else:
            self._flying.append((at, frame, meta))
