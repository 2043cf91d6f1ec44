"""``make soak``: hundreds of connections at a time for an hour, over a bad wire that goes down now and then (root).

::

    one namespace
      the kernel's TCP --- tap0 --- usertcp, its blocking road      a process each
                       --- tap1 --- usertcp, its drop-in socket
                       --- tap2 --- usertcp, asyncio (no offloads)

Connections are opened by both sides and replaced as they end: streams of no byte to some megabytes both ways, half
closed, reset from either side in the middle or at the end, silent while keepalive asks, not read for a while. A share
of the frames is lost, and the devices go down for a while. Every byte that arrived is held against what was to be sent
(SHA-256); who is to be reset must be told so; nothing may hang; and what the processes hold, memory, descriptors,
objects, must not grow. What is not true of a run makes the exit status 1.
"""

import argparse
import errno
import json
import os
import queue
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.soak_ends import CUT, UNNAMED, WHOLE
from benchmarks.soak_plan import CONNECTS, KERNEL, NETWORK, RESETS, ROADS, TAP, Job, Plan, job_of, other
from benchmarks.words import amount, count, share
from usertcp.errors import SetupError
from usertcp.link import netns, provision

ROOT: Final = Path(__file__).parents[1]
SETTLE: Final = 6.0  # seconds after an outage in which opening may still fail: ARP asks for three
STARTING: Final = 60.0  # seconds that the ends have to begin
ENDING: Final = 240.0  # and to come to their end: TIME-WAIT, too
LATE: Final = 2.0  # seconds without the processor after which an end is as good as unplugged: ARP finds nobody there
WARM: Final = 0.15  # the share of a run, at its beginning, that says nothing about growth
ENOUGH: Final = 24  # samples that do
GROWTH: Final = 0.04  # the share by which memory may differ between the last third and the first
TELL: Final = 60.0  # seconds between two lines where there is no terminal
# So begin the errors of who is reset: by reading, by sending, and by closing before either was told.
TOLD: Final = ("ConnectionResetError:", "BrokenPipeError:", f"OSError: {os.strerror(errno.ENOTCONN)}")
# With threads glibc has up to eight arenas a processor, and what each keeps creeps up for an hour.
MALLOC: Final = {"MALLOC_ARENA_MAX": "1"}
SHOWN: Final = 10  # failures of one kind that are told in full

# What usertcp sends is lost as it enters the kernel; the other way an end loses what it reads: a rule on that way would
# tell the kernel's TCP, which would not take it for loss.
LOSS: Final = """
table netdev soak {{
  chain in{place} {{
    type filter hook ingress device "{tap}" priority 0;
    numgen random mod 10000 < {share} counter drop
  }}
}}
"""


class End:
    """One of the processes. What it says goes to ``said`` as (name, words), None when it is gone."""

    def __init__(
        self, name: str, plan: Plan, space: str, said: "queue.Queue[tuple[str, dict[str, Any] | None]]"
    ) -> None:
        self.name = name
        self.errors: list[str] = []  # the lines of its stderr: there should be none
        self._said = said
        command = [sys.executable, "-m", "benchmarks.soak_ends", name, json.dumps(plan.as_dict())]
        with netns.inside(space):
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **MALLOC},
                start_new_session=True,  # Ctrl-C is for this process, which ends the others
            )
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._listen, self._note)]
        for thread in self._threads:
            thread.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put((self.name, json.loads(line)))
        self._said.put((self.name, None))

    def _note(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors.append(line.rstrip())

    def tell(self, word: str) -> None:
        """A line on its stdin."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream is not None
            with suppress(BrokenPipeError):
                stream.close()


@dataclass
class Ledger:
    """What became of the connections.

    ``outages``  begin and end of each, in the time of the monotonic clock
    ``alone``    connections of which one side alone has told yet
    """

    plan: Plan
    outages: list[tuple[float, float]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    alone: dict[int, str] = field(default_factory=dict)

    def fail(self, kind: str, text: str) -> None:
        """Something that should not be."""
        self.counts[kind] += 1
        if self.counts[kind] <= SHOWN:
            self.failures.append(f"{kind}: {text}")

    def note(self, end: str, told: dict[str, Any]) -> None:
        """How a side of a connection ended."""
        outcome = told["outcome"]
        self.kinds[f"{'usertcp' if end in ROADS else end}, {outcome}"] += 1
        self.counts["retransmissions"] += told["again"]
        if told["number"] == UNNAMED:
            self.counts["unnamed"] += 1
            if not outcome.startswith(TOLD):
                self.fail("wrong end", f"{end}: one without a number, {outcome}")
            return
        job = job_of(self.plan, told["number"])
        if not told["opened"]:
            self._unopened(end, told)
            return
        if told["side"] == CONNECTS:
            self.counts["opened"] += 1
        self._pair(job, told["side"])
        self.counts["bytes in" if end in ROADS else "bytes out"] += told["received"]
        self._judge(end, job, told)

    def _unopened(self, end: str, told: dict[str, Any]) -> None:
        """One that could not be opened: by an outage alone."""
        if any(begin <= told["at"] and told["at"] - told["seconds"] <= over + SETTLE for begin, over in self.outages):
            self.counts["not opened in an outage"] += 1
        else:
            self.fail("not opened", f"{end}: {told['number']}, {told['outcome']} after {told['seconds']:.1f} s")

    def _pair(self, job: Job, side: str) -> None:
        if self.alone.pop(job.number, None) is None:
            self.alone[job.number] = side
        else:
            self.counts["both ends seen"] += 1

    def _judge(self, end: str, job: Job, told: dict[str, Any]) -> None:
        side, outcome, count = told["side"], told["outcome"], told["received"]
        sender = other(side)
        about = f"{end} {side} {job.number} ({job.ending} by {job.by}): {outcome}, {count} of {job.size(sender)} bytes"
        if count > job.size(sender) or told["sha256"] != job.digest(sender, count):
            self.fail("mismatch", about)
        if "timed out" in outcome.lower() or "TimeoutError" in outcome:
            self.fail("hang", about)
        elif job.ending != RESETS:
            if outcome == WHOLE and count == job.size(sender):
                self.counts["streams hashed whole"] += 1
            else:
                self.fail("wrong end", about)
        elif outcome == CUT if job.by == side else outcome.startswith(TOLD):
            self.counts["sides of resets"] += 1
        else:
            self.fail("wrong end", about)

    def close(self) -> None:
        """All is over: nobody may be missing but who never learned which connection it had."""
        nameless = 0
        for number, side in self.alone.items():
            job = job_of(self.plan, number)
            if side == CONNECTS and job.resets(CONNECTS):
                nameless += 1
            else:
                self.fail("lost", f"{number}: only the side that {side} has told")
        if self.counts["unnamed"] > nameless:
            self.fail("lost", f"{self.counts['unnamed']} ended before their number, and {nameless} are known to have")


# --- growth -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trend:
    """A figure over the run. ``first``, ``last``: medians of the first and the last third; ``slope``: by least squares,
    an hour."""

    start: float
    first: float
    last: float
    end: float
    slope: float


def trend(samples: Sequence[dict[str, Any]], key: str) -> Trend | None:
    """That of ``key``, without the warm-up; None if there are too few samples."""
    warm = samples[round(len(samples) * WARM) :]
    if len(warm) < ENOUGH:
        return None
    times, values = [each["at"] / 3600 for each in warm], [float(each[key]) for each in warm]
    third = len(values) // 3
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    return Trend(samples[0][key], first, last, values[-1], statistics.linear_regression(times, values).slope)


# What may differ between the thirds beside its share: chance moves these with the connections of the moment.
SLACK: Final = {
    "memory": 3_000_000,
    "taken": 2_000_000,
    "blocks": 10_000,
    "descriptors": 12,
    "threads": 12,
    "objects": 8_000,
    "living": 60,
    "timers": 120,
}


def growing(key: str, found: Trend) -> bool:
    """Whether a figure is greater in the last third by more than chance."""
    return found.last - found.first > max(SLACK[key], GROWTH * found.first)


def left_over(first: dict[str, Any], last: dict[str, Any]) -> list[str]:
    """What an end still has, when all is over, that it did not have before it began."""
    left = [f"{last[key]} {key}" for key in ("connections", "ports", "living", "stirred") if last.get(key)]
    for key in ("descriptors", "threads"):
        if last[key] > first[key]:
            left.append(f"{last[key]} {key}, {first[key]} before")
    return left


# --- the run ----------------------------------------------------------------------------------------------------------


class Soak:
    """A run: the namespace, its devices and its processes, all gone with the ``with`` block."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self.plan = plan
        self.console = console
        self.ledger = Ledger(plan)
        self.samples: dict[str, list[dict[str, Any]]] = {}
        self.firsts: dict[str, dict[str, Any]] = {}
        self.finals: dict[str, dict[str, Any]] = {}
        self.errors: dict[str, list[str]] = {}
        self.lost_out = 0
        self.kernel: dict[str, int] = {}
        self._said: queue.Queue[tuple[str, dict[str, Any] | None]] = queue.Queue()
        self._random = Random(plan.seed)
        self._ends: dict[str, End] = {}
        self._heard: dict[str, set[str]] = {}  # kind: the ends that have said it
        self._told = 0  # failures that were printed
        with ExitStack() as undo:
            self.space = undo.enter_context(provision.Namespace.create()).name
            provision.set_sysctl("net/ipv4/tcp_no_metrics_save", "1", netns=self.space)
            for place in range(len(ROADS)):
                undo.enter_context(
                    provision.create_tap(TAP.format(place), netns=self.space, address=f"{NETWORK.format(place)}.1/24")
                )
                self._lose(place)
            for name in (*ROADS, KERNEL):
                self._ends[name] = undo.enter_context(End(name, plan, self.space, self._said))
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _nft(self, *words: str, rules: str = "") -> str:
        tool = shutil.which("nft", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")
        if tool is None:
            raise SetupError("nft is not installed", "install it: scripts/setup tools")
        with netns.inside(self.space):
            done = subprocess.run([tool, *words], input=rules, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SetupError(f"nft does not take the rules: {done.stderr.strip()}", "the kernel needs nf_tables_netdev")
        return done.stdout

    def _lose(self, place: int) -> None:
        """Lose a share of what comes out of a device."""
        if self.plan.loss:
            share = round(self.plan.loss * 10_000)
            self._nft("-f", "-", rules=LOSS.format(place=place, tap=TAP.format(place), share=share))

    # -- listening to the ends -----------------------------------------------------------------------------------------

    def _hear(self, seconds: float) -> None:
        """Take in what is said, at most so long."""
        limit = time.monotonic() + seconds
        while (rest := limit - time.monotonic()) > 0:
            try:
                name, words = self._said.get(timeout=rest)
            except queue.Empty:
                return
            self._take(name, words)

    def _take(self, name: str, words: dict[str, Any] | None) -> None:
        kind = "gone" if words is None else words["kind"]
        self._heard.setdefault(kind, set()).add(name)
        if words is None:
            return
        if kind == "end":
            self.ledger.note(name, words)
            for failure in self.ledger.failures[self._told :]:  # as it comes: a run is long
                self._told += 1
                self.console.print(f"{time.strftime('%H:%M:%S')} {failure}", markup=False, soft_wrap=True)
        elif kind == "ready":
            self.firsts[name] = words
        elif kind == "sample":
            before = self.samples.setdefault(name, [])
            if before and words["at"] - before[-1]["at"] > self.plan.every + LATE:
                self.ledger.outages.append((before[-1]["at"], words["at"]))
                self.ledger.counts["stalls"] += 1
            before.append(words)
        elif kind == "rest":
            self.finals[name] = words

    def _await(self, kind: str, seconds: float) -> bool:
        """Until every end has said ``kind``; False if one of them did not, in time or at all."""
        limit = time.monotonic() + seconds
        while missing := self._ends.keys() - self._heard.get(kind, set()):
            if time.monotonic() > limit or missing & self._heard.get("gone", set()):
                for name in sorted(missing):
                    self.ledger.fail("hang", f"the end {name} is not {kind}")
                return False
            self._hear(0.1)
        return True

    # -- the course ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """All of it."""
        try:
            if not self._await("ready", STARTING):
                return
            for end in self._ends.values():
                end.tell("go")
            self._work()
            for word, kind, seconds in (("stop", "stopped", self.plan.patience + ENDING), ("quit", "rest", ENDING)):
                for end in self._ends.values():
                    end.tell(word)
                if not self._await(kind, seconds):
                    return
            _ = self._await("gone", STARTING)
            self.ledger.close()
        finally:
            self._hear(0.2)
            self.errors = {name: end.errors for name, end in self._ends.items() if end.errors}
            self.lost_out = sum(map(int, re.findall(r"packets (\d+)", self._nft("list", "ruleset"))))
            self.kernel = self._kernel()

    def _work(self) -> None:
        """Connections are opened, and now and then a device goes down."""
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        began = told = time.monotonic()
        flap = began + self._until_next()
        with Progress(*columns, console=self.console, disable=not self.console.is_terminal) as progress:
            task = progress.add_task("", total=self.plan.seconds)
            while (now := time.monotonic()) < began + self.plan.seconds and not self._heard.get("gone"):
                if now >= flap:
                    self._flap(TAP.format(self._random.randrange(len(ROADS))))
                    flap = time.monotonic() + self._until_next()
                self._hear(min(0.2, flap - time.monotonic()))
                progress.update(task, completed=now - began, description=self.line())
                if not self.console.is_terminal and now - told >= TELL:
                    told = now
                    self.console.print(f"{(now - began) / 60:.0f} min: {self.line()}", highlight=False, soft_wrap=True)

    def _until_next(self) -> float:
        return self.plan.between * self._random.uniform(0.5, 1.5)

    def _flap(self, tap: str) -> None:
        """A device goes down, and comes up again."""
        begin = time.monotonic()
        provision.set_up(tap, False, netns=self.space)
        self.ledger.outages.append((begin, begin + self.plan.outage[1] + 1))  # for who tells meanwhile
        try:
            self._hear(self._random.uniform(*self.plan.outage))
        finally:
            provision.set_up(tap, True, netns=self.space)
        self.ledger.outages[-1] = (begin, time.monotonic())

    def _kernel(self) -> dict[str, int]:
        """What the kernel's TCP has counted."""
        with netns.inside(self.space):
            lines = Path("/proc/thread-self/net/snmp").read_text(encoding="ascii").splitlines()
        heading, values = (line.split()[1:] for line in lines if line.startswith("Tcp:"))
        return dict(zip(heading, map(int, values), strict=True))

    # -- what came of it -----------------------------------------------------------------------------------------------

    @property
    def failed(self) -> int:
        """Failures so far, of every kind."""
        kinds = ("mismatch", "hang", "wrong end", "not opened", "lost")
        return sum(self.ledger.counts[kind] for kind in kinds)

    def line(self) -> str:
        """The run so far, in a line."""
        counts = self.ledger.counts
        newest = [self.samples[name][-1] for name in ROADS if self.samples.get(name)]
        memory = " ".join(f"{each['memory'] / 1e6:.1f}" for each in newest)
        taken = " ".join(f"{each['taken'] / 1e6:.1f}" for each in newest)
        moved = (counts["bytes in"] + counts["bytes out"]) / 1e6
        return (
            f"{counts['opened']} opened, {moved:.0f} MB, {len(self.ledger.outages)} outages, "
            f"memory {memory or '-'} MB (of malloc {taken or '-'}), {self.failed} failures"
        )

    def verdict(self) -> list[str]:
        """Everything that should not be."""
        found = list(self.ledger.failures)
        if not self.ledger.counts["both ends seen"]:
            found.append("no connection was seen to its end by both sides: nothing was shown")
        found += [f"{name} said: {line}" for name, lines in self.errors.items() for line in lines[:40]]
        for name in ROADS:
            for key in SLACK:
                seen = trend(self.samples.get(name, []), key)
                if seen is not None and growing(key, seen):
                    found.append(f"growth: {key} of {name}, from {seen.first:,.0f} to {seen.last:,.0f}")
            if name in self.finals:
                left = left_over(self.firsts[name], self.finals[name])
                if left:
                    found.append(f"left over: {name} has {', '.join(left)}")
        return found


def as_dict(soak: Soak, found: list[str]) -> dict[str, Any]:
    """All figures, for a file."""
    return {
        "plan": soak.plan.as_dict(),
        "counts": dict(soak.ledger.counts),
        "kinds": dict(soak.ledger.kinds),
        "outages": [over - begin for begin, over in soak.ledger.outages],
        "lost": {
            "out": soak.lost_out,
            "in": sum(final["lost"] for name, final in soak.finals.items() if name in ROADS),
        },
        "kernel": soak.kernel,
        "samples": soak.samples,
        "finals": soak.finals,
        "failures": found,
    }


def tell(soak: Soak, found: list[str], console: Console) -> None:
    """The figures in words."""
    counts, lines = soak.ledger.counts, []
    lines.append(
        f"{counts['opened']:,} connections opened, {counts['both ends seen']:,} seen to their end by both sides; "
        f"{counts['streams hashed whole']:,} streams hashed whole, {counts['sides of resets']:,} sides of resets; "
        f"{counts['not opened in an outage']} not opened in an outage"
    )
    lines.append(f"bytes: {counts['bytes out']:,} to the kernel, {counts['bytes in']:,} from it")
    down = [over - begin for begin, over in soak.ledger.outages]
    lost_in = sum(final["lost"] for name, final in soak.finals.items() if name in ROADS)
    lines.append(
        f"{len(down)} outages and stalls, {sum(down):.0f} s together; frames lost: {soak.lost_out:,} of ours, "
        f"{lost_in:,} of the kernel's; sent again: {counts['retransmissions']:,} by us, "
        f"{soak.kernel.get('RetransSegs', 0):,} by it"
    )
    for name in ROADS:
        for key in ("memory", "taken", "blocks", "descriptors", "objects", "living"):
            seen = trend(soak.samples.get(name, []), key)
            if seen is not None:
                lines.append(
                    f"{name:9} {key:12} start {seen.start:,.0f}, first third {seen.first:,.0f}, last third "
                    f"{seen.last:,.0f}, end {seen.end:,.0f}; {seen.slope:+,.0f} an hour"
                )
        if name in soak.finals:
            final = soak.finals[name]
            seconds = final["at"] - soak.firsts[name]["at"]
            lines.append(
                f"{name:9} afterwards   memory {final['memory']:,}, descriptors {final['descriptors']}, "
                f"connections {final['connections']}; {final['cpu'] / seconds:.0%} of a processor"
            )
    lines.append(f"{counts['stalls']} times an end had no processor for some seconds")
    lines.append("ends: " + "; ".join(f"{kind} {count:,}" for kind, count in sorted(soak.ledger.kinds.items())))
    kinds = ("mismatch", "hang", "wrong end", "not opened", "lost")
    lines.append(", ".join(f"{kind} {counts[kind]}" for kind in kinds))
    lines += found or ["nothing failed"]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=amount, default=10.0, help="how long connections are opened")
    parser.add_argument("--together", type=count, default=Plan.together, help="connections at a time")
    parser.add_argument("--rate", type=amount, default=Plan.rate / 1e6, help="MB a second that they carry, together")
    parser.add_argument("--loss", type=share, default=Plan.loss, help="the share of frames that are lost, each way")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--json", type=Path, help="write all figures into this file")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """The exit status: 0 if nothing failed."""
    args, console = arguments(words), Console()
    plan = Plan(seconds=args.minutes * 60, together=args.together, rate=args.rate * 1e6, loss=args.loss, seed=args.seed)
    try:
        with provision.unwinding(), Soak(plan, console) as soak:
            soak.run()
    except SetupError as error:
        console.print(f"{error.cause}\n{error.cure}", markup=False)
        return 2
    found = soak.verdict()
    tell(soak, found, console)
    if args.json is not None:
        args.json.write_text(json.dumps(as_dict(soak, found)), encoding="utf-8")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
