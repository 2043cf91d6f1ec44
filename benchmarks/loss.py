#!/usr/bin/env python3
"""Loss recovery and congestion control beside the kernel's: ``make bench-loss``, or ``python -m benchmarks.loss``.

usertcp and the kernel make the same transfers, at the same time, through paths of equal settings and equal seeds in one
relay (:mod:`benchmarks.loss_relay`), with the kernel of another namespace as the peer of both (:mod:`.loss_net` draws
it). The table shows the ratio of their goodputs for each cell (:mod:`.loss_cells`); the exit status is 1 if a
requirement (:mod:`.loss_table`) does not hold.

Four programs of their own do the work: the relay, usertcp, and the kernel's ends on both sides. This one starts them,
hands out pairs of transfers (:mod:`.loss_schedule`) and adds up. With ``--calibrate`` the kernel of a third namespace
takes usertcp's place, and every ratio should be 1: what it differs by is the noise of the measurement.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.loss_cells import ALGORITHMS, BIG, CONDITIONS, RATE, RTTS, SEND, Cell, all_cells, quick_cells
from benchmarks.loss_net import Net, need
from benchmarks.loss_programs import Programs
from benchmarks.loss_schedule import LOAD, Schedule, more, plan
from benchmarks.loss_table import LATE_MEAN, Check, Pair, Score, Side, big_check, checks, score, scores, table
from usertcp.errors import SetupError
from usertcp.link import provision

SECONDS: Final = 10.0  # that a transfer lasts
QUICK_SECONDS: Final = 2.0
BIG_SECONDS: Final = 15.0
NOISE: Final = 0.04  # standard error above which a cell gets more pairs, whatever its ratio
MORE: Final = 4  # pairs at a time
MOST: Final = 20  # pairs of a cell


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="usertcp's goodput under loss beside the kernel's", prog="benchmarks.loss"
    )
    algorithms = sorted({cc for listed in ALGORITHMS.values() for cc in listed})
    parser.add_argument("--quick", action="store_true", help="a few short cells: does everything work?")
    parser.add_argument("--calibrate", action="store_true", help="another kernel in usertcp's place: the noise")
    parser.add_argument("--role", action="append", choices=list(ALGORITHMS), help="only this role (may be repeated)")
    parser.add_argument("--cc", action="append", choices=algorithms, help="only this congestion control")
    parser.add_argument("--rtt", action="append", type=int, choices=RTTS, help="only this round-trip time, ms")
    parser.add_argument("--condition", action="append", choices=list(CONDITIONS), help="only this condition")
    parser.add_argument("--repeat", type=int, default=0, metavar="N", help="pairs of each cell (default: by the cell)")
    parser.add_argument(
        "--noise", type=float, default=NOISE, metavar="E", help="more pairs above this error (default: 0.04)"
    )
    parser.add_argument("--seconds", type=float, default=0.0, metavar="S", help=f"of a transfer (default: {SECONDS:g})")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="what chance is drawn from (default: 1)")
    parser.add_argument("--rate", type=float, default=RATE / 1e6, metavar="M", help="Mbit/s of a path (default: 20)")
    parser.add_argument("--load", type=float, default=LOAD / 1e6, metavar="M", help="Mbit/s in all (default: 160)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every result there")
    parser.add_argument("--samples", action="store_true", help="with --json: both senders' state ten times a second")
    parser.add_argument("--big", action="store_true", help="also fill 1 Gbit/s with a round trip of 100 ms")
    parser.add_argument("--pcap", type=Path, metavar="FOLDER", help="capture every flow there, headers only")
    return parser.parse_args(words)


def chosen(args: argparse.Namespace) -> list[Cell]:
    """The cells that the command line selects."""
    rate = round(args.rate * 1e6)
    cells = quick_cells(rate) if args.quick else all_cells(rate)
    return [
        cell
        for cell in cells
        if cell.role in (args.role or [cell.role])
        and cell.cc in (args.cc or [cell.cc])
        and cell.rtt in (args.rtt or [cell.rtt])
        and cell.condition in (args.condition or [cell.condition])
    ]


class Measurement:
    """Everything that is measured over one network."""

    def __init__(self, args: argparse.Namespace, console: Console) -> None:
        self.args = args
        self.console = console
        self.name = "a kernel" if args.calibrate else "usertcp"
        self.pairs: list[Pair] = []
        self.raw: list[dict[str, Any]] = []
        self.reports: list[dict[str, Any]] = []
        self.big: list[Pair] = []
        self.counters: dict[str, dict[str, int]] = {}
        self.refused: dict[str, int] = {}

    def run(self, cells: Sequence[Cell]) -> None:
        """Measure the cells, with a line of progress."""
        args = self.args
        seconds = args.seconds or (QUICK_SECONDS if args.quick else SECONDS)
        plans = plan(cells, seconds, args.repeat or (2 if args.quick else 0), args.seed)
        expected: dict[Cell, int] = {}
        for cell, _ in plans:
            expected[cell] = expected.get(cell, 0) + 1
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with (
            provision.unwinding(),
            Net.build(calibrate=args.calibrate) as net,
            Programs(net, samples=args.samples, captures=args.pcap) as programs,
            Progress(*columns, console=self.console) as progress,
        ):
            task = progress.add_task("pairs", total=len(plans))
            net.begin()

            def finished(pair: Pair, raw: dict[str, Any]) -> None:
                self.pairs.append(pair)
                self.raw.append(raw)
                progress.advance(task)
                mine = [one for one in self.pairs if one.cell == pair.cell]
                if len(mine) < expected[pair.cell]:
                    return
                found = score(pair.cell, mine)
                if found.noise > args.noise and len(mine) < MOST and not args.repeat:
                    expected[pair.cell] += MORE
                    schedule.waiting += more(pair.cell, args.seed, len(mine), MORE)
                    progress.update(task, total=sum(expected.values()))
                else:
                    progress.console.print(_line(found))

            schedule = Schedule(programs, plans, seconds, finished, load=round(args.load * 1e6))

            def shown() -> None:
                last = schedule.reports[-1] if schedule.reports else {"late_mean": 0.0, "cpu": 0.0}
                text = f"{len(schedule.under)} pairs run; the relay is {last['late_mean']:.0f} µs late"
                progress.update(task, description=f"{text}, {last['cpu']:.0%} busy")

            schedule.run(shown)
            self.reports = schedule.reports
            self.counters = net.counters()
            self.refused = net.losses()
            if refused := sum(report["refused"] for report in self.reports):
                self.refused["relay"] = refused

    def run_big(self) -> None:
        """One transfer at a time over a path so fast that super-segments must cross the relay whole."""
        with (
            provision.unwinding(),
            Net.build(calibrate=self.args.calibrate, big=True) as net,
            Programs(net, offload=True, samples=self.args.samples) as programs,
        ):

            def finished(pair: Pair, raw: dict[str, Any]) -> None:
                self.big.append(pair)
                self.raw.append(raw)

            Schedule(programs, plan(BIG, BIG_SECONDS, 1, 1), BIG_SECONDS, finished, serial=True).run()

    @property
    def reneging(self) -> int:
        """How often a kernel found that its peer had given up SACKed data."""
        return sum(side.get("TCPSACKReneging", 0) for side in self.counters.values())

    def relay(self) -> dict[str, float]:
        """How the relay did over the whole run."""
        reports = self.reports
        if not reports:
            return {"late_mean": 0.0, "late_max": 0.0, "late_share": 0.0, "cpu": 0.0}
        frames = sum(report["frames"] for report in reports)
        weighted = {key: sum(report[key] * report["frames"] for report in reports) / frames for key in reports[0]}
        return {
            "late_mean": weighted["late_mean"],
            "late_max": max(report["late_max"] for report in reports),
            "late_share": weighted["late_share"],
            "cpu": sum(report["cpu"] for report in reports) / len(reports),
        }


def _line(found: Score) -> str:
    """One cell in words, when its last pair is done."""
    noise = "" if math.isnan(found.noise) else f" ±{found.noise:.2f}"
    return (
        f"{found.cell}: {found.ratio:.2f}{noise}, {found.ours / 1e6:.2f} of {found.kernel / 1e6:.2f} Mbit/s, "
        f"sent again {found.repeated:.2%} of {found.kernel_repeated:.2%}, "
        f"needlessly {found.spurious:.2%} of {found.kernel_spurious:.2%}"
        + ("" if found.intact else f" [bold red]NOT INTACT[/] {', '.join(found.errors)}")
    )


def report(measured: Measurement, found: list[Score], judged: list[Check], console: Console) -> None:
    """The table, the requirements, and whether the relay can be believed."""
    console.print(table(found, measured.name))
    noises = [item.noise for item in found if not math.isnan(item.noise)]
    if noises:
        console.print(f"standard errors: median {median(noises):.3f}, largest {max(noises):.3f}")
    relay = measured.relay()
    console.print(
        f"the relay: {relay['late_mean']:.0f} µs late on average, {relay['late_max'] / 1000:.1f} ms at most, "
        f"{relay['late_share']:.2%} of its wake-ups by more than 2 ms; {relay['cpu']:.0%} of a processor"
    )
    if relay["late_mean"] > LATE_MEAN:
        console.print("[bold yellow]the machine was too busy for these numbers to be trusted[/]")
    for pair in measured.big:
        console.print(_big_line(pair, measured.name))
    for check in judged:
        verdict = "[green]holds[/]" if check.holds else "[bold red]FAILS[/]"
        console.print(f"{verdict}  {check.statement}: {check.seen}")


def _big_line(pair: Pair, name: str) -> str:
    """A transfer over the fast path: all of it, and its second half as a share of the path's rate."""
    rate = pair.cell.rate

    def words(who: str, side: Side) -> str:
        broken = "" if side.intact else f" [bold red]NOT INTACT {side.error}[/]"
        return f"{who} {side.goodput / 1e6:.0f} Mbit/s (second half {side.steady / rate:.0%}){broken}"

    verb = "sends" if pair.cell.role == SEND else "receives"
    return (
        f"{rate / 1e9:g} Gbit/s x {pair.cell.rtt} ms, {name} {verb}: {words(name, pair.ours)}, "
        f"{words('the kernel', pair.kernel)}"
    )


def as_json(measured: Measurement, found: list[Score], judged: list[Check]) -> dict[str, Any]:
    """Everything, for a file."""
    return {
        "arguments": {key: str(value) for key, value in vars(measured.args).items()},
        "cells": [
            {**item.cell.as_dict(), "ratio": item.ratio, "noise": item.noise, "ours": item.ours, "kernel": item.kernel}
            for item in found
        ],
        "checks": [{"statement": check.statement, "holds": check.holds, "seen": check.seen} for check in judged],
        "relay": measured.reports,
        "counters": measured.counters,
        "pairs": measured.raw,
    }


def main(words: Sequence[str] | None = None) -> int:
    args = arguments(words)
    console = Console()
    cells = chosen(args)
    if not cells:
        console.print("these options select no cell")
        return 2
    measured = Measurement(args, console)
    began = time.monotonic()
    try:
        need(cell.cc for cell in cells)
        measured.run(cells)
        if args.big:
            measured.run_big()
    except SetupError as error:
        console.print(f"{error.cause}\n{error.cure}", markup=False)
        return 2
    found = scores(measured.pairs)
    judged = checks(found, reneging=measured.reneging, refused=measured.refused)
    judged += map(big_check, measured.big)
    report(measured, found, judged, console)
    console.print(f"{len(measured.pairs)} pairs of {len(found)} cells in {(time.monotonic() - began) / 60:.1f} minutes")
    if args.json is not None:
        args.json.write_text(json.dumps(as_json(measured, found, judged)), encoding="utf-8")
    return 0 if all(check.holds for check in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
