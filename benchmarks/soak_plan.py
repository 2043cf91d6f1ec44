"""What the soak does: its settings, and what each connection is to do, which its number alone decides.

Both ends know the number (the connecting one says it first) and so what they send, when, and how it is to end; whoever
judges knows it as well, and what the bytes hash to. Nothing else is agreed upon.
"""

import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, Final, TypeAlias

from benchmarks.loss_ends import stream

HEADER: Final = struct.Struct("!Q")  # the number of the connection
CHUNK: Final = 1 << 16  # bytes handed in or taken out at a time, at most
PORT: Final = 9000
NETWORK: Final = "10.9.{}"  # of each road's TAP; .1 is the kernel, .2 is ours
TAP: Final = "tap{}"

KERNEL: Final = "kernel"
ROADS: Final = ("blocking", "socket", "aio")
CALLERS: Final = tuple(
    (road, ours) for road in ROADS for ours in (True, False)
)  # whose connects: ours, or the kernel's

CONNECTS: Final = "connects"  # the two sides of a connection
ACCEPTS: Final = "accepts"

BOTH: Final = "both"  # endings: each closes when it has sent all
RESETS: Final = "resets"  # one side does, after a share of what it was to send
HALF: Final = "half"  # one side closes, and the other sends the second half of its bytes after that

EMPTY: Final = 0.1  # the share of streams that have no byte
RESET: Final = 0.2  # the share of connections that are reset
HALVED: Final = 0.4  # the share that are half closed for a while
IDLE: Final = 0.1  # the share that fall silent for a while
SLOW: Final = 0.1  # the share whose accepting side reads nothing at first


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of a run.

    ``seconds``    connections are opened for so long; those that are open then come to their end
    ``together``   connections at a time, over all roads and both directions
    ``rate``       bytes a second that they carry, together, on average
    ``seed``       decides everything but the times at which things happen
    ``loss``       the share of frames that are lost, each way
    ``largest``    bytes of a stream, at most
    ``between``    seconds between two outages of a device, on average
    ``outage``     how many seconds one lasts: the shortest, the longest
    ``silence``    seconds that a connection is silent, if it is, longer than keepalive waits
    ``keepalive``  seconds after which it asks, and between its probes
    ``msl``        seconds; TIME-WAIT lasts twice as long
    ``every``      seconds between two samples
    ``patience``   seconds after which a connection that does nothing is held for hung
    """

    seconds: float = 600.0
    together: int = 200
    rate: float = 4e6
    seed: int = 1
    loss: float = 0.01
    largest: int = 4_000_000
    between: float = 20.0
    outage: tuple[float, float] = (0.2, 3.0)
    silence: float = 8.0
    keepalive: int = 3
    msl: float = 5.0
    every: float = 5.0
    patience: float = 120.0

    @property
    def life(self) -> float:
        """Seconds that a connection is to last so that all together carry ``rate``, on average."""
        mean = (1 - EMPTY) * self.largest / math.log(self.largest)  # of a stream
        return self.together * 2 * mean / self.rate

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, words: dict[str, Any]) -> "Plan":
        """From the dictionary of another."""
        return cls(**{**words, "outage": tuple(words["outage"])})


@dataclass(frozen=True, slots=True)
class Job:
    """What a connection is to do.

    ``up``, ``down``  bytes from the connecting side, and from the accepting one
    ``ending``        HALF, BOTH or RESETS; ``by``: who closes first or resets
    ``share``         of its bytes, that the side which resets sends before
    ``seconds``       that the sending takes, if the other side keeps pace
    ``silence``       seconds without a byte, in the middle
    ``slow``          seconds that the accepting side takes nothing out, at first
    """

    number: int
    up: int
    down: int
    ending: str
    by: str
    share: float
    seconds: float
    silence: float
    slow: float

    def size(self, side: str) -> int:
        """Bytes that ``side`` is to send."""
        return self.up if side == CONNECTS else self.down

    def start(self, side: str) -> int:
        """Where in the stream of bytes that there are those of ``side`` begin."""
        return self.number * 7919 + (side == ACCEPTS) * 104729

    def resets(self, side: str) -> bool:
        """Whether ``side`` resets the connection."""
        return self.ending == RESETS and self.by == side

    def digest(self, side: str, count: int) -> str:
        """What the first ``count`` bytes of ``side`` hash to (SHA-256)."""
        total = hashlib.sha256()
        for place in range(0, count, CHUNK):
            total.update(stream(self.start(side) + place, min(CHUNK, count - place)))
        return total.hexdigest()


def other(side: str) -> str:
    """The other side."""
    return ACCEPTS if side == CONNECTS else CONNECTS


def caller(number: int) -> tuple[str, bool]:
    """On which road a connection is, and whether we open it (or the kernel)."""
    return CALLERS[number % len(CALLERS)]


def numbers(road: str, ours: bool) -> Iterator[int]:
    """Those of the connections of a caller, one after another."""
    number = CALLERS.index((road, ours))
    while True:
        yield number
        number += len(CALLERS)


def job_of(plan: Plan, number: int) -> Job:
    """The job of a connection."""
    draw = Random(f"{plan.seed}/{number}")

    def size() -> int:
        return 0 if draw.random() < EMPTY else round(math.exp(draw.uniform(0, math.log(plan.largest))))

    up, down, kind = size(), size(), draw.random()
    ending = RESETS if kind < RESET else HALF if kind < RESET + HALVED else BOTH
    by, share = draw.choice((CONNECTS, ACCEPTS)), draw.choice((0.0, 1.0, draw.random()))
    seconds = plan.life * draw.uniform(0.2, 1.8)
    silence = plan.silence if draw.random() < IDLE else 0.0
    slow = seconds / 2 if draw.random() < SLOW else 0.0
    return Job(number, up, down, ending, by, share, seconds, silence, slow)


# --- what a side does, step by step -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Hand in these bytes."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class AwaitEnd:
    """Until the other side has closed."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Close this side."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection."""


Step: TypeAlias = Send | Pause | AwaitEnd | Finish | Reset


def steps(job: Job, side: str) -> Iterator[Step]:
    """What ``side`` sends and when. Finish or Reset is the last one."""
    size = job.size(side)
    stop = round(size * job.share) if job.resets(side) else size
    half = stop // 2
    yield from _sending(job, side, 0, half)
    if job.silence:
        yield Pause(job.silence)
    if job.ending == HALF and job.by != side:
        yield AwaitEnd()
    yield from _sending(job, side, half, stop)
    yield Reset() if job.resets(side) else Finish()


def _sending(job: Job, side: str, begin: int, end: int) -> Iterator[Step]:
    """The bytes from ``begin`` up to ``end``, in pieces, over half of the time."""
    pieces = max(1, -(-(end - begin) // CHUNK))
    for number in range(pieces):
        yield Pause(job.seconds / 2 / pieces)
        place = begin + number * CHUNK
        if place < end:
            yield Send(stream(job.start(side) + place, min(CHUNK, end - place)))
