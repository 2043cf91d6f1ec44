r"""CoDel, controlled delay (RFC 8289).

The time that a frame waited is known when its turn has come, in nanoseconds and without knowing the rate. A burst makes
it long for a moment; a standing queue keeps its *minimum* above ``target`` for a whole ``interval``. Then frames are
dropped, or marked, at the head, at a growing rate until the delay yields: TCP's rate goes by one over the root of the
loss, so gaps that shrink with the root of the count lower it in even steps::

    delay | ____/\/\/\__              enter when above target for an interval
          |/            \  __
    target+ - - - - - - -\/- - - -    leave as soon as one frame waited less
          +-----|----|---|--|-----
                x    x   x  x         gaps: interval / sqrt(1, 2, 3, 4, ...)

A queue of no more than one frame is nobody's fault and always passes.
"""

from dataclasses import dataclass
from math import sqrt
from random import Random
from typing import Final

from usertcp.link.queue import Item, Queue
from usertcp.units import MIB, MS

MTU: Final = 1514  # bytes; the largest ordinary frame
RECENT: Final = 16  # intervals; a dropping state this soon after the last one resumes its rate (RFC 8289 §5.5)


@dataclass(frozen=True, slots=True)
class CoDel:
    """CoDel with the constants of RFC 8289 §4.2 to §4.4.

    ``target``    acceptable standing delay, ns
    ``interval``  a worst-case round trip, ns
    ``limit``     what does not fit is lost in any case, bytes
    """

    target: int = 5 * MS
    interval: int = 100 * MS
    limit: int = 4 * MIB

    def start(self, rate: int, ecn: bool, random: Random) -> Queue:
        """The queue at work, in front of a transmitter of ``rate`` bit/s."""
        return CoDelQueue(self, ecn)


class CoDelQueue(Queue):
    """The dequeue routine of RFC 8289 §5.5 with its state (§5.2); ``count``: strikes since dropping began."""

    __slots__ = ("_drop_next", "_first_above", "_interval", "_last_count", "_target", "count", "dropping")

    def __init__(self, config: CoDel, ecn: bool) -> None:
        super().__init__(config.limit, ecn)
        self._target = config.target
        self._interval = config.interval
        self._first_above = 0  # when the delay will have been above target for an interval; 0: it is not above
        self._drop_next = 0
        self._last_count = 0
        self.count = 0
        self.dropping = False

    def pop(self, now: int) -> Item | None:
        item, too_long = self._take(now)
        if self.dropping:
            if not too_long:
                self.dropping = False
            while self.dropping and now >= self._drop_next:
                assert item is not None
                self.count += 1
                if (frame := self.marked(item[2])) is not None:
                    self._drop_next = self._after(self._drop_next)
                    return item[0], item[1], frame, item[3]
                item, too_long = self._take(now)
                if too_long:
                    self._drop_next = self._after(self._drop_next)
                else:
                    self.dropping = False
        elif too_long:
            assert item is not None
            if (frame := self.marked(item[2])) is not None:
                item = (item[0], item[1], frame, item[3])
            else:
                item, _ = self._take(now)
            self.dropping = True
            gained = self.count - self._last_count
            resume = gained > 1 and now - self._drop_next < RECENT * self._interval
            self.count = self._last_count = gained if resume else 1
            self._drop_next = self._after(now)
        return item

    def _take(self, now: int) -> tuple[Item | None, bool]:
        """The frame at the head, and whether the delay has been above target for an interval (§5.5, "dodequeue")."""
        item = Queue.pop(self, now)
        if item is None or now - item[0] < self._target or self.size <= MTU:
            self._first_above = 0
        elif not self._first_above:
            self._first_above = now + self._interval
        elif now >= self._first_above:
            return item, True
        return item, False

    def _after(self, at: int) -> int:
        """The control law (§5.6): when the strike is due that follows the one at ``at``."""
        return at + int(self._interval / sqrt(self.count))
