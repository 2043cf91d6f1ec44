"""Experiments drawn over time: window, round-trip time, throughput and queue, an experiment a column, PNG or SVG.

Columns share their axes, so that algorithms can be compared along a row. matplotlib is asked for only here, and only
when something is drawn: it is an optional dependency. No window is opened and no display needed.
"""

from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from usertcp.errors import SetupError
from usertcp.lab.congestion import FlowResult, Outcome
from usertcp.units import KIB, MS, to_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS: Final = (".png", ".svg")
COARSE: Final = 60  # points of a throughput curve
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
STYLE: Final[Any] = {
    "svg.hashsalt": "usertcp",
    "font.size": 8,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "lines.linewidth": 1,
}

Panel = tuple[str, Callable[["Axes", FlowResult, str], None] | None]  # a row's label, and what draws one flow


def require() -> None:
    """SetupError, with the cure, unless matplotlib is there."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise SetupError("drawing needs matplotlib, which is not installed", "pip install 'usertcp[plot]'") from None


def draw(path: Path, title: str, outcomes: Sequence[tuple[str, Outcome]]) -> None:
    """Draw ``outcomes``, each under its heading, into the file ``path``; its suffix is the format."""
    require()
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(2 + 3.4 * len(outcomes), 9), layout="constrained")
        figure.suptitle(title)
        grid = figure.subplots(len(PANELS), len(outcomes), sharex=True, sharey="row", squeeze=False)
        for column, (heading, outcome) in enumerate(outcomes):
            axes = [row[column] for row in grid]
            _column(axes, outcome)
            axes[0].set_title(heading)
            axes[-1].set_xlabel("s")
            if column == 0:
                for one, (label, _) in zip(axes, PANELS, strict=True):
                    one.set_ylabel(label)
        for row in grid:
            row[0].set_ylim(bottom=0)
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, dpi=120, metadata=metadata)


def _column(axes: "Sequence[Axes]", outcome: Outcome) -> None:
    """One experiment, from top to bottom."""
    for n, (result, colour) in enumerate(zip(outcome.flows, cycle(COLOURS), strict=False)):
        for one, (_, panel) in zip(axes, PANELS, strict=True):
            if panel is not None:
                panel(one, result, colour)
        axes[0].lines[-2].set_label(f"{result.flow.congestion} {n + 1}" if len(outcome.flows) > 1 else "cwnd")
    if len(outcome.flows) == 1:
        axes[0].lines[-1].set_label("ssthresh")
    axes[0].legend(loc="upper right")
    axes[-1].plot(
        [to_seconds(at) for at, _ in outcome.queue], [wait / MS for _, wait in outcome.queue], color="#555555"
    )


def _window(axes: "Axes", result: FlowResult, colour: str) -> None:
    series = result.series
    time = [to_seconds(at) for at in series.time]
    axes.plot(time, [value / KIB for value in series.cwnd], color=colour)
    known = [None if value is None else value / KIB for value in series.ssthresh]
    axes.plot(time, known, color=colour, linestyle="--", alpha=0.7)  # type: ignore[arg-type]


def _rtt(axes: "Axes", result: FlowResult, colour: str) -> None:
    series = result.series
    known = [None if value is None else value / MS for value in series.srtt]
    axes.plot([to_seconds(at) for at in series.time], known, color=colour)  # type: ignore[arg-type]


def _throughput(axes: "Axes", result: FlowResult, colour: str) -> None:
    """Averages over some samples: in a single round trip it shows little but where the burst fell."""
    series = result.series
    step = max(len(series.time) // COARSE, 1)
    starts = range(0, len(series.time), step)
    means = [fmean(series.throughput[start : start + step]) / 1e6 for start in starts]
    axes.plot([to_seconds(series.time[start]) for start in starts], means, color=colour)


PANELS: Final[tuple[Panel, ...]] = (
    ("cwnd, ssthresh (dashed), KiB", _window),
    ("smoothed RTT, ms", _rtt),
    ("throughput, Mbit/s", _throughput),
    ("queue, ms", None),
)
