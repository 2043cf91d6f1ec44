"""What a path loses by itself, whether it is busy or not: by chance, in bursts, or for a while.

A model is asked once for each frame, in the order in which they enter the path, and draws from a generator that was
handed to it: the same seed and the same frames lose the same ones. What is lost because a queue is full is the queue's
matter (``usertcp.link.queue``). Each class here is a setting; ``start`` makes the model that keeps the state.

:class:`GilbertElliott` is a Markov chain of two states, one step a frame::

              p                       p = P(good -> bad), r = P(bad -> good)
       .-----------.                  a visit to bad lasts 1/r frames on average
     good           bad               the chain is in bad for p / (p + r) of all frames
       '-----------'
              r
"""

from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias


class Model(Protocol):
    """A loss model at work."""

    def loses(self, now: int) -> bool:
        """Whether the frame that enters at ``now`` (ns) is lost."""
        ...


def share(name: str, value: float, below: float = 1.0) -> None:
    """ValueError unless ``value`` lies between 0 and ``below``."""
    if not 0 <= value <= below:
        raise ValueError(f"{name} lies between 0 and {below:g}, not {value!r}")


@dataclass(frozen=True, slots=True)
class NoLoss:
    """Nothing is lost."""

    def start(self, random: Random) -> Model | None:
        """None: no model needs to be asked."""
        return None


@dataclass(frozen=True, slots=True)
class RandomLoss:
    """Each frame is lost with probability ``p``, whatever became of the others."""

    p: float

    def __post_init__(self) -> None:
        share("p", self.p)

    def start(self, random: Random) -> Model | None:
        return _Random(self.p, random) if self.p else None


@dataclass(frozen=True, slots=True)
class GilbertElliott:
    """Frames are lost in bursts (Gilbert 1960, Elliott 1963).

    ``loss``    the share that is lost on average
    ``burst``   how many frames a bad stretch lasts on average, at least 1
    ``in_bad``  the share that is lost in a bad stretch; at 1 a bad stretch is a run of lost frames
    """

    loss: float
    burst: float
    in_bad: float = 1.0

    def __post_init__(self) -> None:
        share("in_bad", self.in_bad)
        share("loss", self.loss, self.in_bad)
        if self.burst < 1:
            raise ValueError(f"a burst has at least 1 frame, not {self.burst!r}")
        if self.loss and self.enter > 1:
            raise ValueError(f"bursts of {self.burst:g} frames are too short for a loss of {self.loss:g}")

    @property
    def leave(self) -> float:
        """r: the probability that a frame in bad is its last."""
        return 1 / self.burst

    @property
    def enter(self) -> float:
        """p: the probability that bad follows a good frame; infinite if every frame is in bad."""
        bad = self.loss / self.in_bad if self.in_bad else 0.0
        return bad * self.leave / (1 - bad) if bad < 1 else float("inf")

    def start(self, random: Random) -> Model | None:
        return _GilbertElliott(self, random) if self.loss else None


@dataclass(frozen=True, slots=True)
class Outage:
    """Everything is lost for ``duration`` ns from ``start_at`` on, and again each ``period`` ns (0: once only).

    ``start_at`` is a time of the clock that the path is given.
    """

    start_at: int
    duration: int
    period: int = 0

    def __post_init__(self) -> None:
        if self.duration < 0 or self.period < 0 or 0 < self.period < self.duration:
            raise ValueError("an outage ends before its next one begins")

    def start(self, random: Random) -> Model | None:
        return _Outage(self)


Loss: TypeAlias = NoLoss | RandomLoss | GilbertElliott | Outage


class _Random:
    __slots__ = ("_draw", "_p")

    def __init__(self, p: float, random: Random) -> None:
        self._p = p
        self._draw = random.random

    def loses(self, now: int) -> bool:
        return self._draw() < self._p


class _GilbertElliott:
    """Begins in either state with the share of frames that the chain spends there."""

    __slots__ = ("_bad", "_draw", "_enter", "_in_bad", "_leave")

    def __init__(self, config: GilbertElliott, random: Random) -> None:
        self._enter = config.enter
        self._leave = config.leave
        self._in_bad = config.in_bad
        self._draw = random.random
        self._bad = random.random() < config.loss / config.in_bad

    def loses(self, now: int) -> bool:
        draw = self._draw
        if self._bad:
            lost = self._in_bad >= 1 or draw() < self._in_bad
            self._bad = draw() >= self._leave
            return lost
        self._bad = draw() < self._enter
        return False


class _Outage:
    __slots__ = ("_duration", "_period", "_start")

    def __init__(self, config: Outage) -> None:
        self._start = config.start_at
        self._duration = config.duration
        self._period = config.period

    def loses(self, now: int) -> bool:
        since = now - self._start
        if since < 0:
            return False
        if self._period:
            since %= self._period
        return since < self._duration
