#!/usr/bin/env python3
"""What a segment costs in this process, without a device: ``make bench-core``, or ``python -m benchmarks.core``.

The cases are in :mod:`.core_cases`, what is counted in :mod:`.core_meters`. Each is measured alone and among 10,000
idle connections. The interpreter's instructions and calls are compared with those that ``core_baseline.json`` keeps for
this version of Python, if it has any: more than a tenth above, or among idle connections more than a tenth above alone,
and the exit status is 1. Nanoseconds (the best of some repetitions) and the processor's instructions are printed, and
compared with nothing: they are this machine's.

    make bench-core ARGS=--update        keep what was counted, after a change that is meant to cost more (or less)
    make bench-core ARGS="--case ping-pong --idle 0"
    make bench-core ARGS="--case ping-pong --where 40"        which functions they are spent in

A compiled usertcp executes no bytecode: only times are printed.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.core_cases import CASES, Case, Ends
from benchmarks.core_meters import Bytecode, Clock, Meter, processor
from usertcp.cli.version import build, compiled

BASELINE: Final = Path(__file__).with_name("core_baseline.json")
TOLERANCE: Final = 0.10  # above which a figure has grown
IDLE: Final = 10_000  # connections
WARM_UP: Final = 60  # rounds: the congestion window opens, buffers find their size, the interpreter specialises
ROUNDS: Final = 40
REPEAT: Final = 7  # times that nanoseconds are taken
UPDATE: Final = "make bench-core ARGS=--update"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one unit of a case. ``None``: cannot be counted here."""

    ns: float
    instructions: float | None = None  # the interpreter's
    calls: float | None = None
    processor: float | None = None  # the processor's instructions

    def kept(self) -> dict[str, float]:
        """What is the same at every run."""
        return {name: round(value, 1) for name in KEPT if (value := getattr(self, name)) is not None}


KEPT: Final = ("instructions", "calls")
Costs = dict[str, Cost]
Figures = dict[str, dict[str, float]]


def measured(case: Case, meter: Meter, rounds: int = ROUNDS) -> int:
    """Run the case under ``meter``; the units done."""
    before = case.units
    for _ in range(rounds):
        case.prepare()
        meter.start()
        case.work()
        meter.stop()
    return case.units - before


def cost(case: Case) -> Cost:
    """All that can be known about a case."""
    for _ in range(WARM_UP):
        case.prepare()
        case.work()
    bytecode, chip = Bytecode(), processor()
    units = 0 if compiled() else measured(case, bytecode)
    instructions = None
    if chip is not None:
        count = measured(case, chip)
        instructions = chip.total / count
        chip.close()
    return Cost(
        min(_ns(case) for _ in range(REPEAT)),
        bytecode.instructions / units if units else None,
        bytecode.calls / units if units else None,
        instructions,
    )


def _ns(case: Case) -> float:
    clock = Clock()
    count = measured(case, clock)
    return clock.total / count


def where(case: Case, count: int) -> Table:
    """The functions in which most of a unit's bytecode is executed."""
    for _ in range(WARM_UP):
        case.prepare()
        case.work()
    meter = Bytecode()
    units = measured(case, meter)
    drawn = Table(title=f"{case.name}: {meter.instructions / units:,.0f} a {case.unit}")
    drawn.add_column("bytecode", justify="right")
    drawn.add_column("function")
    for code, spent in meter.where.most_common(count):
        drawn.add_row(f"{spent / units:,.0f}", f"{Path(code.co_filename).stem}.{code.co_qualname}")
    return drawn


def all_costs(cases: Sequence[type[Case]], idle: Sequence[int]) -> Iterator[tuple[str, Cost]]:
    """Every case, alone and among so many idle connections; cases that can share their ends do."""
    for gso in (True, False):
        chosen = [case for case in cases if case.gso == gso]
        for count in idle if chosen else ():
            ends = Ends(gso=gso, idle=count)
            for kind in chosen:
                case = kind(ends)
                yield label(kind, count), cost(case)
                case.close()


def label(case: type[Case], idle: int) -> str:
    return f"{case.name}, {idle:,} idle" if idle else case.name


def grown(costs: Costs, baseline: Figures) -> list[str]:
    """What costs more than it did, or more among idle connections than alone, or was never kept: a line each."""
    alone = {name.partition(",")[0] for name in costs}
    found = [f"{name}: no figures are kept of it" for name in sorted(alone) if baseline and name not in baseline]
    for name, now in costs.items():
        lonely = costs.get(name.partition(",")[0])
        for figure, value in now.kept().items():
            before = baseline.get(name, {}).get(figure)
            if before is not None and value > before * (1 + TOLERANCE):
                found.append(f"{name}: {value:,.0f} {figure}, {value / before - 1:+.0%} ({before:,.0f} before)")
            base = getattr(lonely, figure, None)
            if base is not None and value > base * (1 + TOLERANCE):
                found.append(f"{name}: {value:,.0f} {figure}, alone {base:,.0f}: it does not stay flat")
    return found


def table(costs: Costs, baseline: Figures, units: dict[str, str]) -> Table:
    """One line a case."""
    drawn = Table(title=f"usertcp, {build()}, Python {version()}: cost of one unit")
    for heading in ("case", "unit"):
        drawn.add_column(heading)
    for heading in ("ns", "bytecode", "change", "calls", "instructions"):
        drawn.add_column(heading, justify="right")
    for name, one in costs.items():
        before = baseline.get(name, {}).get("instructions")
        change = f"{one.instructions / before - 1:+.1%}" if before and one.instructions is not None else ""
        shown = ["" if value is None else f"{value:,.0f}" for value in (one.instructions, one.calls, one.processor)]
        drawn.add_row(name, units[name.partition(",")[0]], f"{one.ns:,.0f}", shown[0], change, *shown[1:])
    return drawn


def version() -> str:
    """Of the interpreter, to the minor one: its instructions differ from one to the next."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def update(costs: Costs, path: Path = BASELINE) -> None:
    """Keep these figures for this version of Python; cases that were not measured keep theirs."""
    everything: dict[str, Figures] = json.loads(path.read_text()) if path.exists() else {}
    everything.setdefault(version(), {}).update({name: one.kept() for name, one in costs.items()})
    path.write_text(json.dumps(everything, indent=2, sort_keys=True) + "\n")


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="the cost of a segment, in process", prog="benchmarks.core")
    names = [case.name for case in CASES]
    parser.add_argument("--case", action="append", choices=names, help="only this case (may be repeated)")
    parser.add_argument("--idle", type=int, default=IDLE, metavar="N", help=f"idle connections (default: {IDLE:,})")
    parser.add_argument("--where", type=int, default=0, metavar="N", help="only show in which N functions most is done")
    parser.add_argument("--update", action="store_true", help="keep what is counted as the baseline")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    args, console = arguments(words), Console(width=None if sys.stdout.isatty() else 112)
    cases = [case for case in CASES if args.case is None or case.name in args.case]
    if args.where:
        for kind in cases:
            console.print(where(kind(Ends(gso=kind.gso)), args.where))
        return 0
    costs = dict(all_costs(cases, (0, args.idle) if args.idle else (0,)))
    stored: dict[str, Figures] = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    baseline = stored.get(version(), {})
    console.print(table(costs, baseline, {case.name: case.unit for case in cases}))
    if args.json:
        args.json.write_text(json.dumps({name: asdict(one) for name, one in costs.items()}, indent=2) + "\n")
    if compiled():
        return 0
    if args.update:
        update(costs)
        console.print(f"kept in {BASELINE.name}, for Python {version()}")
        return 0
    if not baseline:
        console.print(f"no baseline for Python {version()}: {UPDATE} makes one")
    found = grown(costs, baseline)
    for line in found:
        console.print(line)
    if found:
        console.print(f"If that is meant: {UPDATE}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
