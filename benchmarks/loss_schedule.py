"""Which pairs run when: as many at a time as the relay is expected to carry on time.

A pair is two runs, usertcp's and the kernel's. A run is opened at the relay and at the peer, and connects when both
have answered; it is over when both its ends have told their results and the relay its counters. The sides of a pair
connect at the same moment; with ``serial``, where one transfer alone is all that the machine carries, one after the
other.
"""

import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any, Final

from benchmarks.loss_cells import Cell, Job
from benchmarks.loss_programs import FAR, KERNEL, OURS, RELAY, Programs
from benchmarks.loss_table import Pair, Side

LOAD: Final = 160_000_000  # bit/s that all running transfers together are expected to make
TOGETHER: Final = 24  # pairs that run at the same time, at most
PORTS: Final = range(10_000, 60_000)
LEAD: Final = 20_000_000  # ns from the order to connect to the connecting
REPORT: Final = 1.0  # seconds between two reports of the relay
SILENCE: Final = 90.0  # seconds without a word from any program that are a failure

Plan = tuple[Cell, int]  # a cell and a seed


@dataclass(slots=True)
class Run:
    """One side of a pair, under way."""

    job: Job
    side: str
    waiting: int = 2  # answers before it may connect
    results: dict[bool, dict[str, Any]] = field(default_factory=dict)  # the sender's (True) and the receiver's
    relay: dict[str, Any] | None = None

    def outcome(self) -> Side:
        """What came of it."""
        sender, receiver = self.results[True], self.results[False]
        counters = self.relay or {}
        error = sender["error"] or receiver["error"]
        same = (sender["bytes"], sender["sha256"]) == (receiver["bytes"], receiver["sha256"])
        return Side(
            goodput=receiver["counted"] * 8 / self.job.seconds,
            intact=same and not error and receiver["bytes"] > 0,
            segments=counters.get("segments", 0),
            repeated=counters.get("repeated", 0),
            dsacks=counters.get("dsacks", 0),
            error=error,
            steady=(receiver["counted"] - receiver["first"]) * 16 / self.job.seconds,
        )

    def as_dict(self) -> dict[str, Any]:
        ends = {"sender": self.results[True], "receiver": self.results[False]}
        return {**asdict(self.outcome()), "relay": self.relay, **ends}


@dataclass(slots=True)
class Under:
    """A pair under way."""

    plan: Plan
    runs: dict[str, Run]


def plan(cells: Sequence[Cell], seconds: float, pairs: int, seed: int) -> list[Plan]:
    """Every pair of the cells, in a mixed order that ``seed`` decides; ``pairs`` of each cell, 0: as it asks for."""
    plans = [one for cell in cells for one in more(cell, seed, 0, pairs or cell.pairs(seconds))]
    Random(seed).shuffle(plans)
    return plans


def more(cell: Cell, seed: int, first: int, count: int) -> list[Plan]:
    """``count`` pairs of a cell, from number ``first`` on."""
    base = zlib.crc32(str(cell).encode()) + 1000 * seed
    return [(cell, base + number & 0x7FFF_FFFF) for number in range(first, first + count)]


class Schedule:
    """Runs all of ``plans``; ``finished`` gets each pair with the raw results of its sides."""

    def __init__(
        self,
        programs: Programs,
        plans: Sequence[Plan],
        seconds: float,
        finished: Callable[[Pair, dict[str, Any]], None],
        *,
        load: int = LOAD,
        serial: bool = False,
    ) -> None:
        self.programs = programs
        self.waiting = list(plans)
        self.seconds = seconds
        self.finished = finished
        self.load = load
        self.serial = serial
        self.under: list[Under] = []
        self.reports: list[dict[str, Any]] = []  # the relay's on itself
        self._ports = iter(PORTS)
        self._by_port: dict[int, tuple[Under, Run]] = {}
        self._opening: deque[Run] = deque()  # asked of the relay, in order
        self._listening: deque[Run] = deque()  # asked of the peer
        self._closing: deque[Run] = deque()

    def run(self, shown: Callable[[], None] = lambda: None) -> None:
        """Until everything is done; ``shown`` is called a few times a second."""
        programs = self.programs
        programs.tell(RELAY, do="report")
        next_report, heard = time.monotonic() + REPORT, time.monotonic()
        while self.waiting or self.under:
            self._admit()
            events = programs.events(0.2)
            now = time.monotonic()
            for name, words in events:
                self._on_event(name, words)
            if events:
                heard = now
            elif now - heard > SILENCE:
                raise AssertionError(f"no program has said anything for {SILENCE:g} s; under way: {self.under}")
            if now >= next_report:
                next_report = now + REPORT
                programs.tell(RELAY, do="report")
            shown()

    def _admit(self) -> None:
        """Begin what the relay has room for."""
        free = self.load - sum(self._weight(under.plan) for under in self.under)
        at = 0
        while at < len(self.waiting) and len(self.under) < TOGETHER:
            weight = self._weight(self.waiting[at])
            if weight <= free or not self.under:
                free -= weight
                self._begin(self.waiting.pop(at))
            else:
                at += 1

    def _weight(self, planned: Plan) -> float:
        return planned[0].expected_rate() * (1 if self.serial else 2)

    def _begin(self, planned: Plan) -> None:
        cell, seed = planned
        runs = {side: Run(Job(cell, seed, self.seconds, next(self._ports)), side) for side in (OURS, KERNEL)}
        under = Under(planned, runs)
        self.under.append(under)
        for run in [runs[OURS]] if self.serial else list(runs.values()):
            self._open(under, run)

    def _open(self, under: Under, run: Run) -> None:
        self._by_port[run.job.port] = (under, run)
        self._opening.append(run)
        self._listening.append(run)
        name = f"{run.job.cell}-{run.job.seed}-{run.side}".replace(" ", "-")
        self.programs.tell(RELAY, do="open", jobs=[{**run.job.as_dict(), "name": name}])
        self.programs.tell(FAR, do="listen", jobs=[run.job.as_dict()])

    def _on_event(self, name: str, words: dict[str, Any]) -> None:
        did = words.get("did")
        if did == "open":
            self._answered(self._opening.popleft())
        elif did == "listen":
            self._answered(self._listening.popleft())
        elif did == "report":
            if words["answer"]["frames"]:
                self.reports.append(words["answer"])
        elif did == "close":
            run = self._closing.popleft()
            run.relay = words["answer"][str(run.job.port)]
            self._closed(self._by_port.pop(run.job.port)[0], run)
        elif words["port"] in self._by_port:
            run = self._by_port[words["port"]][1]
            run.results[words["sending"]] = words
            if words["error"] and len(run.results) < 2 and not words["bytes"]:
                run.results.setdefault(not words["sending"], {**words, "sending": not words["sending"]})
            if len(run.results) == 2 and run not in self._closing and run.relay is None:
                self._closing.append(run)
                self.programs.tell(RELAY, do="close", ports=[run.job.port])

    def _answered(self, run: Run) -> None:
        run.waiting -= 1
        under = self._by_port[run.job.port][0]
        together = [run] if self.serial else list(under.runs.values())
        if any(one.waiting for one in together):
            return
        at = time.monotonic_ns() + LEAD
        for one in together:
            self.programs.tell(one.side, do="connect", at=at, jobs=[one.job.as_dict()])

    def _closed(self, under: Under, run: Run) -> None:
        if self.serial and run.side == OURS:
            self._open(under, under.runs[KERNEL])
        if any(one.relay is None for one in under.runs.values()):
            return
        self.under.remove(under)
        cell, seed = under.plan
        ours, kernel = under.runs[OURS], under.runs[KERNEL]
        raw = {"cell": cell.as_dict(), "seed": seed, "ours": ours.as_dict(), "kernel": kernel.as_dict()}
        self.finished(Pair(cell, seed, ours.outcome(), kernel.outcome()), raw)
