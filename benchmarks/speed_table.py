"""What the runs add up to: medians, ratios to the kernel, the table of them, and whether the requirements hold.

A ratio is taken within a round, where both runs were made within seconds of each other, and the median is taken of the
ratios: what the machine does from one minute to the next falls out of it.
"""

import math
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from rich.table import Table

from benchmarks.loss_table import Check
from benchmarks.speed_rows import COLUMNS, ROWS, Column, Result, Row, Run

KERNEL: Final = "veth"
RIVALS: Final = ("lwip", "gvisor")


@dataclass(slots=True)
class Results:
    """What every run came to: by round, column and run. ``errors``: why a column's run came to nothing."""

    found: dict[tuple[int, str, Run], Result] = field(default_factory=dict)
    errors: dict[tuple[str, Run], str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)  # columns that cannot run here, and why
    hashes: list[dict[str, Any]] = field(default_factory=list)
    rounds: int = 0
    rows: list[Row] = field(default_factory=lambda: list(ROWS))  # that were asked for: runs are shared by others, too

    def values(self, row: Row, column: Column) -> dict[int, float]:
        """A row's value in each round."""
        run = column.run(row.run)
        if run is None:
            return {}
        key = column.key
        return {
            number: row.value(self.found[number, key, run])
            for number in range(self.rounds)
            if (number, key, run) in self.found
        }

    def error(self, row: Row, column: Column) -> str:
        """Why there is no value."""
        run = column.run(row.run)
        return "" if run is None else self.errors.get((column.key, run), "")

    def middle(self, row: Row, column: Column) -> float:
        """The median of a row's values; nan if there is none."""
        values = self.values(row, column)
        return median(values.values()) if values else math.nan

    def ratio(self, row: Row, column: Column, base: Column | None = None) -> float:
        """The median of the ratios to the column that is the row's measure, round by round; nan if there is none."""
        measure = self.values(base_row(row), base or by_key(row.base))
        ratios = [value / measure[at] for at, value in self.values(row, column).items() if measure.get(at)]
        return median(ratios) if ratios else math.nan


def base_row(row: Row) -> Row:
    """The row in which the measure of ``row`` stands: a variant that the kernel lacks is measured by the plain one."""
    return by_row(SAME.get(row.key, row.key))


SAME: Final = {"out-reference": "out", "ping-spin": "ping"}


def by_key(key: str) -> Column:
    return next(column for column in COLUMNS if column.key == key)


def by_row(key: str) -> Row:
    return next(row for row in ROWS if row.key == key)


# --- requirements -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Need:
    """``column`` reaches at least ``least`` times its measure in the row (with ``most``: its value is at most that)."""

    row: str
    column: str
    least: float = 0.0
    most: float = math.inf


NEEDS: Final = (
    Need("in", "blocking", 0.7),
    Need("out", "blocking", 0.5),
    Need("out-reference", "blocking", 0.7),
    Need("in", "aio", 0.35),
    Need("out", "aio", 0.35),
    Need("in", "socket", 0.2),
    Need("out", "socket", 0.2),
    Need("in-bbr", "blocking", 0.45),
    Need("in-sum", "blocking", 0.18),
    Need("out-sum", "blocking", 0.18),
    Need("ping", "blocking", 0.9),
    Need("ping-alone", "blocking", 0.6),
    Need("ping-spin", "blocking", 2.0),
    Need("ping-64", "blocking", 0.45),
    Need("connect", "blocking", 0.5),
    Need("connect-16", "blocking", 0.5),
    Need("accept", "blocking", 0.5),
    Need("accept-16", "blocking", 0.5),
    Need("idle-memory", "blocking", most=6.0),
    Need("import", "blocking", most=150.0),
    Need("start", "blocking", most=50.0),
)
FLAT: Final = 0.9  # of its speed alone that a busy connection keeps among idle ones
BETTER: Final = {  # row: (columns, how many times the better of the rivals they are)
    "in": (("blocking", "aio", "socket"), 5.0),
    "out": (("blocking", "aio", "socket"), 5.0),
    "in-sum": (("blocking",), 1.0),
    "out-sum": (("blocking",), 1.0),
    "ping-64": (("blocking",), 1.0),
    "connect": (("blocking",), 1.0),
    "connect-16": (("blocking",), 1.0),
}
RIVAL: Final = {"in-sum": "gvisor", "out-sum": "gvisor", "ping-64": "gvisor", "connect": "lwip", "connect-16": "lwip"}


def checks(results: Results) -> list[Check]:
    """The requirements on what was measured; those on what was left out are left out."""
    asked = {row.key for row in results.rows}
    found = [_need(results, need) for need in NEEDS if need.row in asked]
    for key in sorted({"idle-in", "idle-ping"} & asked):
        row = by_row(key)
        value = results.middle(row, by_key("blocking"))
        found.append(_check(f"blocking: {row.title} is at least {FLAT:g}", value, value >= FLAT, f"{value:.2f}"))
    for key, (columns, times) in BETTER.items():
        found += [_better(results, by_row(key), by_key(name), times) for name in columns if key in asked]
    found += [_hashes(results)]
    return [check for check in found if check is not None]


def _check(statement: str, value: float, holds: bool, seen: str) -> Check | None:
    return None if math.isnan(value) else Check(statement, holds, seen)


def _need(results: Results, need: Need) -> Check | None:
    row, column = by_row(need.row), by_key(need.column)
    name = column.key
    if need.most < math.inf:
        value = results.middle(row, column)
        said = f"{value:.{row.digits}f}"
        return _check(f"{name}: {row.title} is at most {need.most:g} {row.unit}", value, value <= need.most, said)
    ratio = results.ratio(row, column)
    seen = f"{ratio:.2f} ({results.middle(row, column):.{row.digits}f} {row.unit})"
    return _check(f"{name}: {row.title} is at least {need.least:g} of the kernel", ratio, ratio >= need.least, seen)


def _better(results: Results, row: Row, column: Column, times: float) -> Check | None:
    keys = (RIVAL[row.key],) if row.key in RIVAL else RIVALS
    rivals = [item for item in COLUMNS if item.key in keys]
    values = {item.key: results.middle(row, item) for item in rivals}
    values = {key: value for key, value in values.items() if not math.isnan(value)}
    mine = results.middle(row, column)
    if not values or math.isnan(mine):
        return None
    best = max(values, key=lambda key: values[key])
    many = mine / values[best] if values[best] else math.inf
    words = f"{times:g} times " if times != 1 else ""
    return Check(f"{column.key}: {row.title} is at least {words}{' and '.join(keys)}", many >= times, f"{many:.1f}")


def _hashes(results: Results) -> Check | None:
    if not results.hashes:
        return None
    broken = [f"{item['column']} {item['kind']}: {item['why']}" for item in results.hashes if item["why"]]
    count = len(results.hashes)
    return Check(
        "SHA-256 is equal at both ends of every stream that was checked", not broken, "; ".join(broken) or f"{count}"
    )


# --- the table --------------------------------------------------------------------------------------------------------


def _cell(results: Results, row: Row, column: Column) -> str:
    value = results.middle(row, column)
    if math.isnan(value):
        return "[bold red]failed[/]" if results.error(row, column) else "[dim]-[/]"
    text = _number(value, row.digits)
    ratio = results.ratio(row, column)
    if column.key == row.base or math.isnan(ratio) or row.unit == "ratio":
        return text
    return f"{text} [dim]{_number(ratio, 2)}[/]"


def _number(value: float, digits: int) -> str:
    """With so many digits behind the point, or two that say something."""
    return f"{value:.{digits}f}" if value >= 0.1 or not value else f"{value:.{1 - math.floor(math.log10(value))}f}"


def shown(results: Results) -> tuple[list[Row], list[Column]]:
    """The rows that were asked for and the columns, as far as they hold anything."""

    def there(row: Row, column: Column) -> bool:
        return bool(results.values(row, column)) or bool(results.error(row, column))

    rows = [row for row in results.rows if any(there(row, column) for column in COLUMNS)]
    columns = [column for column in COLUMNS if any(there(row, column) for row in rows)]
    return rows, columns


def table(results: Results) -> Table:
    """The medians, and beside them the ratios to the kernel."""
    rows, columns = shown(results)
    drawn = Table(title="speed: medians, and the ratio to the kernel in the same round", title_justify="left")
    drawn.add_column("")
    drawn.add_column("")
    for column in columns:
        drawn.add_column(column.title, justify="right")
    for row in rows:
        drawn.add_row(row.title, row.unit, *(_cell(results, row, column) for column in columns))
    return drawn


def figures(results: Results) -> list[dict[str, Any]]:
    """The table for a file: every row and column with its values, median and ratio."""
    rows, columns = shown(results)
    found = []
    for row in rows:
        for column in columns:
            values = list(results.values(row, column).values())
            if not values:
                continue
            ratio = results.ratio(row, column)
            found.append(
                {
                    "row": row.key,
                    "title": row.title,
                    "unit": row.unit,
                    "column": column.key,
                    "median": median(values),
                    "ratio": None if math.isnan(ratio) else ratio,
                    "values": values,
                }
            )
    return found
