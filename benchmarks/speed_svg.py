"""The ratios as a picture, for the README: a line for each row, a mark for each contestant."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.speed_rows import COLUMNS, ROWS, Column
from usertcp.errors import SetupError

try:
    from matplotlib import rc_context
    from matplotlib.figure import Figure
except ImportError:
    raise SetupError("drawing needs matplotlib", "pip install 'usertcp[plot]', or leave --svg out") from None

UNITS: Final = ("Gbit/s", "k/s")  # of the rows in which more is better
MARKS: Final = {  # shape and colour, by a column's key without what says that it is compiled: those are hollow
    "blocking": ("o", "#1f6f8b"),
    "aio": ("D", "#c8553d"),
    "socket": ("s", "#8d6a9f"),
    "lwip": ("^", "#6b7280"),
    "gvisor": ("v", "#6b7280"),
    "pytcp": ("x", "#6b7280"),
}
HOLLOW: Final = "-hot"
LINE: Final = 0.3  # inches of a row
STYLE: Final[dict[Any, Any]] = {
    "svg.hashsalt": "usertcp",
    "svg.fonttype": "none",
}  # the same figures make the same file


def drawing(table: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the ratios to the kernel of ``table`` (``speed_table.figures``) on a logarithmic axis."""
    ratios = {(one["row"], one["column"]): one["ratio"] for one in table if one["ratio"] and one["unit"] in UNITS}
    rows = [row for row in ROWS if any(key == row.key for key, _ in ratios)]
    columns = [column for column in COLUMNS if column.key.removesuffix(HOLLOW) in MARKS]
    with rc_context(STYLE):
        figure = Figure(figsize=(10, 2.0 + LINE * len(rows)), layout="constrained")
        axes = figure.subplots()
        for column in columns:
            _marks(axes, column, [(ratios.get((row.key, column.key)), at) for at, row in enumerate(rows)])
        axes.axvline(1.0, color="#111827", linewidth=1)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.grid(color="#e5e7eb", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_yticks(range(len(rows)), [row.title for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel("ratio to the kernel's TCP over veth in the same round")
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _marks(axes: Any, column: Column, points: Sequence[tuple[float | None, int]]) -> None:
    """Those of one column: (ratio, if there is one, and line)."""
    found = [(ratio, at) for ratio, at in points if ratio is not None]
    shape, colour = MARKS[column.key.removesuffix(HOLLOW)]
    inside = {"facecolors": "none", "edgecolors": colour} if column.key.endswith(HOLLOW) else {"color": colour}
    if found:
        axes.scatter(*zip(*found, strict=True), s=42, marker=shape, label=column.title.replace("\n", " "), **inside)
