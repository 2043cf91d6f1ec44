"""Random Early Detection (Floyd and Jacobson 1993; RFC 2309).

A moving average of the queue's length, taken at each arrival, tells lasting congestion from a burst. Between two
thresholds frames are dropped, or marked, at random, so that senders hear of it at different times::

    probability
       1 |                      .------
         |                      |
    max_p|                   _.-'
         |               _.-'
       0 '-------------'---------------- average
                     min       max

Chance alone would let strikes cluster; so the probability rises with the number of frames since the last one and the
gaps come out even. While the queue is empty nothing arrives to take the average at; on the next arrival it decays as if
small queues had been seen for that time. A full-sized frame and a short one are struck alike (RFC 7141 §2.2).
"""

from dataclasses import dataclass
from random import Random
from typing import Final

from usertcp.frame import FrameMeta
from usertcp.link.loss import share
from usertcp.link.queue import Item, Queue
from usertcp.units import KIB, SEC

TYPICAL: Final = 1500  # bytes; the frame in whose transmission times idleness is counted


@dataclass(frozen=True, slots=True)
class Red:
    """RED over bytes.

    ``low, high``  thresholds of the average, bytes ("min_th", "max_th"); the paper advises high >= 2 * low
    ``max_p``      probability at ``high``
    ``weight``     of one arrival in the average
    ``limit``      what does not fit is lost in any case, bytes
    """

    low: int = 30 * KIB
    high: int = 90 * KIB
    max_p: float = 0.1
    weight: float = 0.002
    limit: int = 256 * KIB

    def __post_init__(self) -> None:
        share("max_p", self.max_p)
        share("weight", self.weight)
        if not 0 <= self.low < self.high:
            raise ValueError(f"the thresholds must be in order: {self.low}, {self.high}")

    def start(self, rate: int, ecn: bool, random: Random) -> Queue:
        """The queue at work, in front of a transmitter of ``rate`` bit/s."""
        return RedQueue(self, rate, ecn, random)


class RedQueue(Queue):
    """``average``: of the queue, bytes; ``_count``: frames since the last strike, -1 below the lower threshold."""

    __slots__ = ("_config", "_count", "_draw", "_empty_since", "_slope", "_typical", "average")

    def __init__(self, config: Red, rate: int, ecn: bool, random: Random) -> None:
        super().__init__(config.limit, ecn)
        self._config = config
        self._typical = max(TYPICAL * 8 * SEC // rate, 1) if rate else 1
        self._slope = config.max_p / (config.high - config.low)
        self._draw = random.random
        self._count = -1
        self._empty_since = 0
        self.average = 0.0

    def push(self, size: int, frame: bytes, meta: FrameMeta, now: int) -> None:
        config = self._config
        if self.items:
            self.average += config.weight * (self.size - self.average)
        else:
            self.average *= (1 - config.weight) ** ((now - self._empty_since) / self._typical)
            self._empty_since = now
        average = self.average
        if average < config.low:
            self._count = -1
        elif average >= config.high:  # dropped even where marking is possible (RFC 3168 §7)
            self._count = 0
            self.drops += 1
            return
        else:
            self._count += 1
            early = self._slope * (average - config.low)
            if self._count * early >= 1 or self._draw() * (1 - self._count * early) < early:
                self._count = 0
                changed = self.marked(frame)
                if changed is None:
                    return
                frame = changed
        Queue.push(self, size, frame, meta, now)

    def pop(self, now: int) -> Item | None:
        item = Queue.pop(self, now)
        if not self.items:
            self._empty_since = now
        return item
