"""A bad network, on purpose and repeatably.

:class:`Faults` goes over any link and applies rules to the frames of either direction: drop, delay, reorder,
duplicate, corrupt. A rule strikes by seeded probability, by predicate, or both, at most ``limit`` times. Each rule
draws from a generator of its own, seeded with its place, so that the same seed and the same frames give the same
faults, and adding a rule does not move the strikes of the others. There is no rate limit and no queue to overflow here:
that is the simulated wire's.

A rule strikes a *frame*, so a frame must be one segment: offloads are switched off unless asked to stay.
"""

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from usertcp.frame import PLAIN, FrameMeta
from usertcp.link.base import IN, OUT, Link, Middleware
from usertcp.units import MS, NEVER

BOTH: Final = "both"
WAITING: Final = 4096  # frames kept in one direction; beyond that the link answers "full"

Frame = bytes | memoryview


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """When a fault strikes.

    ``when``         only frames of which this is true (it gets the whole frame)
    ``probability``  of those, this share, by the seeded generator; None: all
    ``limit``        at most so many times
    ``direction``    "in" (from the network), "out" (to it) or "both"
    """

    probability: float | None = None
    when: Callable[[bytes], bool] | None = None
    limit: int | None = None
    direction: str = BOTH

    def __post_init__(self) -> None:
        if self.direction not in (IN, OUT, BOTH):
            raise ValueError(f"direction is {IN!r}, {OUT!r} or {BOTH!r}, not {self.direction!r}")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise ValueError(f"a probability lies between 0 and 1, not {self.probability!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop(Rule):
    """The frame is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay(Rule):
    """The frame arrives ``by`` ns late, and up to ``jitter`` ns later still; jitter may reorder."""

    by: int = 10 * MS
    jitter: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorder(Rule):
    """The frame arrives after ``behind`` later ones of its direction, or after ``hold`` ns if they do not come."""

    behind: int = 3
    hold: int = 10 * MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicate(Rule):
    """The frame arrives ``copies`` times more."""

    copies: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupt(Rule):
    """``bits`` bits behind the Ethernet header are flipped. ARP is spared: it has no checksum to tell by."""

    bits: int = 1


class _Armed:
    """A rule at work: its generator and what it has done."""

    __slots__ = ("random", "rule", "struck")

    def __init__(self, rule: Rule, random: Random) -> None:
        self.rule = rule
        self.random = random
        self.struck = 0

    def strikes(self, frame: bytes) -> bool:
        rule = self.rule
        if rule.limit is not None and self.struck >= rule.limit:
            return False
        if rule.when is not None and not rule.when(frame):
            return False
        if rule.probability is not None and self.random.random() >= rule.probability:
            return False
        self.struck += 1
        return True


class _Lane:
    """One direction: the rules that apply to it, and the frames it keeps."""

    __slots__ = ("_armed", "_due", "_ethernet", "_held", "_order", "ready")

    def __init__(self, armed: list[_Armed], ethernet: bool) -> None:
        self.ready: deque[tuple[bytes, FrameMeta]] = deque()
        self._armed = armed
        self._ethernet = ethernet
        self._due: list[tuple[int, int, bytes, FrameMeta]] = []
        self._held: list[tuple[int, int, bytes, FrameMeta]] = []  # passed when the lane's order reaches the first
        self._order = 0

    def __bool__(self) -> bool:
        return bool(self._armed)

    def __len__(self) -> int:
        return len(self.ready) + len(self._due) + len(self._held)

    def admit(self, frame: bytes, meta: FrameMeta, now: int) -> None:
        """Put a frame through the rules; what comes of it goes to ``ready``, now or later."""
        delay, behind, hold, copies = 0, 0, 0, 1
        for armed in self._armed:
            rule = armed.rule
            if isinstance(rule, Corrupt) and self._ethernet and frame[12:14] == b"\x08\x06":
                continue
            if not armed.strikes(frame):
                continue
            if isinstance(rule, Drop):
                copies = 0
                break
            if isinstance(rule, Delay):
                delay += rule.by + (armed.random.randrange(rule.jitter + 1) if rule.jitter else 0)
            elif isinstance(rule, Reorder):
                behind, hold = max(behind, rule.behind), max(hold, rule.hold)
            elif isinstance(rule, Duplicate):
                copies += rule.copies
            elif isinstance(rule, Corrupt):
                frame = _flip(frame, 14 if self._ethernet else 0, rule.bits, armed.random)
                meta = FrameMeta(meta.gso_size) if meta.gso_size else PLAIN  # nobody vouches for it any more
        self._order += 1
        if not copies:
            self._pass_held(now)
            return
        if behind:
            self._held.append((self._order + behind, now + delay + hold, frame, meta))
        elif delay:
            heapq.heappush(self._due, (now + delay, self._order, frame, meta))
        else:
            self.ready.append((frame, meta))
        for _ in range(copies - 1):
            if delay or behind:
                heapq.heappush(self._due, (now + delay, self._order, frame, meta))
            else:
                self.ready.append((frame, meta))
        self._pass_held(now)

    def _pass_held(self, now: int) -> None:
        keep = []
        for item in self._held:
            if item[0] <= self._order or item[1] <= now:
                self.ready.append((item[2], item[3]))
            else:
                keep.append(item)
        self._held = keep

    def tick(self, now: int) -> None:
        while self._due and self._due[0][0] <= now:
            _, _, frame, meta = heapq.heappop(self._due)
            self.ready.append((frame, meta))
        if self._held:
            self._pass_held(now)

    def next_deadline(self) -> int:
        at = self._due[0][0] if self._due else NEVER
        for item in self._held:
            at = min(at, item[1])
        return at


class Faults(Middleware):
    """A link that loses, delays, reorders, duplicates and corrupts by ``rules``; same seed, same faults.

    Without rules for a direction that direction is handed through untouched. Rules apply in their order; a dropped
    frame meets no later rule.
    """

    RETRY: Final = MS  # when the device was full, ns

    def __init__(self, inner: Link, rules: Sequence[Rule], seed: int = 0, *, keep_offload: bool = False) -> None:
        super().__init__(inner)
        if not keep_offload:
            inner.set_offload(False)
            self.caps = replace(self.caps, tx_checksum=False, tx_gso=False)
        self._armed: list[_Armed] = []
        lanes: dict[str, list[_Armed]] = {IN: [], OUT: []}
        for place, rule in enumerate(rules):
            for direction in (IN, OUT):
                if rule.direction in (direction, BOTH):
                    lanes[direction].append(_Armed(rule, Random(f"{seed}/{place}/{direction}")))
            if rule.direction == BOTH and rule.limit is not None:
                lanes[OUT][-1] = lanes[IN][-1]  # one limit, so one counter, for both directions
        self._armed = list(dict.fromkeys([*lanes[IN], *lanes[OUT]]))
        ethernet = inner.caps.mac is not None
        self._in = _Lane(lanes[IN], ethernet)
        self._out = _Lane(lanes[OUT], ethernet)

    @property
    def counts(self) -> dict[str, int]:
        """How often each kind of fault struck: ``{"drop": 3, "corrupt": 0}``."""
        total: dict[str, int] = {}
        for armed in self._armed:
            kind = type(armed.rule).__name__.lower()
            total[kind] = total.get(kind, 0) + armed.struck
        return total

    def set_offload(self, on: bool) -> None:
        """Left as the constructor decided."""

    def tick(self, now: int) -> None:
        super().tick(now)
        self._in.tick(now)
        self._out.tick(now)
        self._flush()

    def read(self) -> tuple[memoryview, FrameMeta] | None:
        lane = self._in
        if not lane:
            return self.inner.read()
        while not lane.ready:
            if len(lane) >= WAITING:
                return None
            item = self.inner.read()
            if item is None:
                return None
            lane.admit(bytes(item[0]), item[1], self.now)
        frame, meta = lane.ready.popleft()
        return memoryview(frame), meta

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        lane = self._out
        if not lane:
            return self.inner.send(header, payload, meta)
        if len(lane) >= WAITING or not self._flush():
            return False
        lane.admit(b"".join((header, *payload)), meta, self.now)
        self._flush()
        return True

    def _flush(self) -> bool:
        """Send what is ready. False: the device is full."""
        ready = self._out.ready
        while ready:
            frame, meta = ready[0]
            if not self.inner.send(frame, [], meta):
                return False
            ready.popleft()
        return True

    def next_deadline(self) -> int:
        at = min(self.inner.next_deadline(), self._in.next_deadline(), self._out.next_deadline())
        if self._in.ready:
            return self.now
        return min(at, self.now + self.RETRY) if self._out.ready else at


def _flip(frame: bytes, start: int, bits: int, random: Random) -> bytes:
    if len(frame) <= start:
        return frame
    damaged = bytearray(frame)
    for place in random.sample(range(start * 8, len(frame) * 8), min(bits, (len(frame) - start) * 8)):
        damaged[place >> 3] ^= 1 << (place & 7)
    return bytes(damaged)
