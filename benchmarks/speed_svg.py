"""The ratios as a picture, for the README."""

import math
from pathlib import Path
from typing import Final

from benchmarks.speed_table import Results, shown
from usertcp.errors import SetupError

try:
    from matplotlib.figure import Figure
except ImportError:
    raise SetupError("drawing needs matplotlib", "pip install 'usertcp[plot]', or leave --svg out") from None

COLOURS: Final = ("#1f6f8b", "#56a3a6", "#a8c686", "#d9a441", "#c8553d", "#8d6a9f", "#6b7280", "#374151")
HEIGHT: Final = 0.16  # inches of a bar


def drawing(results: Results, path: Path) -> None:
    """Write the ratios to the kernel as bars, on a logarithmic axis, row by row."""
    rows, columns = shown(results)
    rows = [row for row in rows if row.unit not in ("ratio", "ms", "KB", "s/GB")]
    columns = [column for column in columns if not column.key.startswith("veth")]
    figure = Figure(figsize=(9, 1 + HEIGHT * len(rows) * (len(columns) + 1)), layout="constrained")
    axes = figure.subplots()
    for at, column in enumerate(columns):
        ratios = [results.ratio(row, column) for row in rows]
        places = [number + (at + 0.5) / (len(columns) + 1) for number in range(len(rows))]
        bars = [(place, ratio) for place, ratio in zip(places, ratios, strict=True) if not math.isnan(ratio)]
        axes.barh(
            [place for place, _ in bars],
            [ratio for _, ratio in bars],
            height=0.9 / (len(columns) + 1),
            color=COLOURS[at % len(COLOURS)],
            label=column.title.replace("\n", " "),
        )
    axes.axvline(1.0, color="#111827", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks([number + len(columns) / (2 * (len(columns) + 1)) for number in range(len(rows))])
    axes.set_yticklabels([row.title for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("ratio to the kernel's TCP over veth in the same round (1: as fast)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
    figure.savefig(path, format="svg", metadata={"Date": None})
