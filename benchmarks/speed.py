#!/usr/bin/env python3
"""usertcp's speed beside that of the kernel and of others: ``make bench``, or ``python -m benchmarks.speed``.

One end of every run is the kernel's TCP with cubic, in a C program on a processor of its own (``peers/kernel_peer.c``).
The other end is a contestant on another processor: the kernel again, over a veth pair, usertcp on a TAP, or another
stack on a TAP. :mod:`.speed_rows` lists what is measured and whom, :mod:`.speed_net` draws the network, and
:mod:`.speed_table` says what is required: the exit status is 1 if a requirement does not hold.

The rounds are interleaved: in each, every row is run for all the columns, one after the other, so that what the machine
does meanwhile meets all of them. A separate pass moves streams that are hashed at both ends.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.loss_net import need
from benchmarks.loss_table import Check
from benchmarks.speed_check import check_streams
from benchmarks.speed_rows import COLUMNS, ROWS, Column, Row, Run
from benchmarks.speed_run import Bench, Failed
from benchmarks.speed_table import Results, base_row, by_key, checks, figures, table
from usertcp.errors import SetupError
from usertcp.link import provision

SECONDS: Final = 1.5  # that a run is measured
WARM: Final = 0.25  # seconds before that
ROUNDS: Final = 3
QUICK: Final = (0.4, 1)  # seconds, rounds
KEPT: Final = Path("build/speed.json")
WIDTH: Final = 200  # characters of a line that goes into a file
KEYS: Final = ", ".join(row.key for row in ROWS)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="usertcp's speed beside the kernel's and others'",
        prog="benchmarks.speed",
        epilog=f"rows: {KEYS}; columns: {', '.join(column.key for column in COLUMNS)}",
    )
    parser.add_argument(
        "--only", metavar="ROWS", help="these rows, by their keys and commas; 'in*' means all that begin so"
    )
    parser.add_argument("--columns", metavar="COLUMNS", help="these columns, and those that are their measure")
    parser.add_argument("--without", metavar="COLUMNS", default="", help="not these columns")
    parser.add_argument("--quick", action="store_true", help="one short round: does everything work?")
    parser.add_argument("--rounds", type=int, default=0, metavar="N", help=f"rounds (default: {ROUNDS})")
    parser.add_argument("--seconds", type=float, default=0.0, metavar="S", help=f"of a run (default: {SECONDS:g})")
    parser.add_argument("--idle", type=int, default=0, metavar="N", help="idle connections (default: 10000)")
    parser.add_argument(
        "--json", type=Path, default=KEPT, metavar="FILE", help=f"keep every result there (default: {KEPT})"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the ratios (needs usertcp[plot])")
    parser.add_argument("--kept", action="store_true", help="measure nothing: draw what --json has kept")
    return parser.parse_args(words)


def _chosen(listed: str | None, keys: Sequence[str], what: str) -> list[str]:
    """The keys that a list with commas means. SetupError for a word that means none."""
    if listed is None:
        return list(keys)
    found: list[str] = []
    for word in listed.split(","):
        hits = [key for key in keys if key == word or (word.endswith("*") and key.startswith(word[:-1]))]
        if not hits:
            raise SetupError(f"there is no {what} {word!r}", f"choose from: {', '.join(keys)}")
        found += hits
    return found


def chosen_rows(args: argparse.Namespace) -> list[Row]:
    """The rows of ``--only``, with those in which their measure stands."""
    keys = _chosen(args.only, [row.key for row in ROWS], "row")
    keys += [base_row(row).key for row in ROWS if row.key in keys]
    return [row for row in ROWS if row.key in keys]


def chosen_columns(args: argparse.Namespace, rows: Sequence[Row]) -> list[Column]:
    """The columns of ``--columns`` without those of ``--without``; the rows' measures are always among them."""
    every = [column.key for column in COLUMNS]
    keys = set(_chosen(args.columns, every, "column")) - set(
        _chosen(args.without or None, every, "column") if args.without else []
    )
    keys |= {row.base for row in rows}
    return [column for column in COLUMNS if column.key in keys]


def plan(rows: Sequence[Row], columns: Sequence[Column]) -> list[tuple[str, Run]]:
    """One round: every run once for each column that can make it, row by row."""
    wanted = [(column.key, run) for row in rows for column in columns if (run := column.run(row.run)) is not None]
    return list(dict.fromkeys(wanted))


def measure(args: argparse.Namespace, rows: Sequence[Row], columns: Sequence[Column], console: Console) -> Results:
    """All rounds, with a line of progress; then the streams that are hashed."""
    seconds = args.seconds or (QUICK[0] if args.quick else SECONDS)
    results = Results(rounds=args.rounds or (QUICK[1] if args.quick else ROUNDS), rows=list(rows))
    bars = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with provision.unwinding(), Bench(seconds, WARM, args.idle) as bench, Progress(*bars, console=console) as progress:
        columns = [column for column in columns if _prepared(bench, column, results)]
        runs = plan(rows, columns)
        task = progress.add_task("", total=len(runs) * results.rounds)
        for number in range(results.rounds):
            for column, run in runs:
                progress.update(task, description=f"round {number + 1}: {run.kind}, {column}")
                if number == 0 or not ((column, run) in results.errors or by_key(column).once):
                    _measure_one(bench, results, number, column, run)
                progress.advance(task)
        progress.update(task, description="SHA-256 of streams")
        results.hashes = check_streams(bench, columns, quick=args.quick)
    return results


def _prepared(bench: Bench, column: Column, results: Results) -> bool:
    """Whether a column's programs are there; if not, the table says why."""
    try:
        bench.prepare(column.key)
    except SetupError as error:
        results.absent[column.key] = f"{error.cause} ({error.cure})"
        return False
    return True


def _measure_one(bench: Bench, results: Results, number: int, column: str, run: Run) -> None:
    try:
        results.found[number, column, run] = bench.measure(column, run)
    except Failed as error:
        results.errors[column, run] = str(error)


def report(results: Results, judged: Sequence[Check], console: Console) -> None:
    """The table, what could not be measured and why, and the requirements."""
    console.print(table(results))
    for key, why in results.absent.items():
        console.print(f"[yellow]{by_key(key).title.replace(chr(10), ' ')}[/] was left out: {why}")
    for (key, run), why in results.errors.items():
        console.print(f"[yellow]{by_key(key).title.replace(chr(10), ' ')}[/], {run.kind}: {why}")
    for check in judged:
        verdict = "[green]holds[/]" if check.holds else "[bold red]fails[/]"
        console.print(f"{verdict}  {check.statement}: {check.seen}")


def as_json(args: argparse.Namespace, results: Results, judged: Sequence[Check]) -> dict[str, Any]:
    """Everything, for a file."""
    return {
        "arguments": {key: str(value) for key, value in vars(args).items()},
        "python": sys.version.split()[0],
        "table": figures(results),
        "absent": results.absent,
        "errors": [{"column": key, "kind": run.kind, "why": why} for (key, run), why in results.errors.items()],
        "hashes": results.hashes,
        "checks": [{"statement": check.statement, "holds": check.holds, "seen": check.seen} for check in judged],
    }


def draw_kept(kept: Path, svg: Path | None) -> int:
    """Draw the results of an earlier run. SetupError when there are none."""
    if svg is None:
        raise SetupError("--kept draws, and was not told where to", "add --svg FILE")
    from benchmarks.speed_svg import drawing

    try:
        table = json.loads(kept.read_text(encoding="utf-8"))["table"]
    except (OSError, ValueError, KeyError) as error:
        raise SetupError(
            f"{kept} holds no results: {error}", "run make bench first, or name another with --json"
        ) from None
    drawing(table, svg)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    args = arguments(words)
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=WIDTH)
    began = time.monotonic()
    try:
        if args.kept:
            return draw_kept(args.json, args.svg)
        rows = chosen_rows(args)
        need(["cubic", "bbr"] if any(row.run.bbr for row in rows) else ["cubic"])
        if args.svg is not None:
            from benchmarks.speed_svg import drawing  # before the minutes that a run takes: is matplotlib there?
        results = measure(args, rows, chosen_columns(args, rows), console)
    except SetupError as error:
        console.print(f"{error.cause}\n{error.cure}", markup=False)
        return 2
    judged = checks(results)
    report(results, judged, console)
    console.print(f"{results.rounds} rounds in {(time.monotonic() - began) / 60:.1f} minutes")
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps(as_json(args, results, judged)), encoding="utf-8")
    if args.svg is not None:
        drawing(figures(results), args.svg)
    return 0 if all(check.holds for check in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
