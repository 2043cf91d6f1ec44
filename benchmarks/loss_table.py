"""What the transfers add up to: a ratio for each cell, the table of them, and whether the requirements hold.

The ratio of a cell is usertcp's bytes over the kernel's, each summed over the cell's pairs. Beside it stands its
standard error, from leaving out one pair after the other (the jackknife): what chance alone may do to the number.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from rich.table import Table

from benchmarks.loss_cells import ALGORITHMS, CONDITIONS, SEND, Cell

MEDIAN: Final = 0.95  # of all ratios, at least
WORST: Final = 0.85  # of each
SPURIOUS: Final = 0.01  # of the data segments: reported duplicates that usertcp may have beyond the kernel's
FILLED: Final = 0.9  # of what the kernel gets out of the fast path once both are up to speed
LATE_MEAN: Final = 500.0  # µs by which the relay's frames may leave late on average


@dataclass(frozen=True, slots=True)
class Side:
    """One transfer. Goodputs in bit/s, ``steady``: in the second half; ``intact``: both ends hashed the same stream."""

    goodput: float
    intact: bool
    segments: int = 0
    repeated: int = 0
    dsacks: int = 0
    error: str = ""
    steady: float = 0.0


@dataclass(frozen=True, slots=True)
class Pair:
    """The two transfers that ran side by side."""

    cell: Cell
    seed: int
    ours: Side
    kernel: Side


@dataclass(frozen=True, slots=True)
class Score:
    """A cell's outcome. Goodputs in bit/s; spurious and repeated segments as shares of those with data."""

    cell: Cell
    pairs: int
    ours: float
    kernel: float
    noise: float
    spurious: float
    kernel_spurious: float
    repeated: float
    kernel_repeated: float
    intact: bool
    errors: tuple[str, ...] = ()

    @property
    def ratio(self) -> float:
        return self.ours / self.kernel if self.kernel else math.nan


@dataclass(frozen=True, slots=True)
class Check:
    """A requirement, whether it holds, and what was seen."""

    statement: str
    holds: bool
    seen: str


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)


def jackknife(ours: Sequence[float], kernel: Sequence[float]) -> float:
    """The standard error of ``sum(ours) / sum(kernel)``; nan where there are not two pairs."""
    count = len(ours)
    if count < 2:
        return math.nan
    a, b = sum(ours), sum(kernel)
    if any(b - y <= 0 for y in kernel):
        return math.nan
    without = [(a - x) / (b - y) for x, y in zip(ours, kernel, strict=True)]
    middle = _mean(without)
    return math.sqrt((count - 1) / count * sum((value - middle) ** 2 for value in without))


def _share(counts: Iterable[int], segments: Iterable[int]) -> float:
    return sum(counts) / max(sum(segments), 1)


def score(cell: Cell, pairs: Sequence[Pair]) -> Score:
    """What the pairs of one cell come to."""
    ours, kernel = [pair.ours for pair in pairs], [pair.kernel for pair in pairs]
    sides = [*ours, *kernel]
    return Score(
        cell=cell,
        pairs=len(pairs),
        ours=_mean(side.goodput for side in ours),
        kernel=_mean(side.goodput for side in kernel),
        noise=jackknife([side.goodput for side in ours], [side.goodput for side in kernel]),
        spurious=_share((side.dsacks for side in ours), (side.segments for side in ours)),
        kernel_spurious=_share((side.dsacks for side in kernel), (side.segments for side in kernel)),
        repeated=_share((side.repeated for side in ours), (side.segments for side in ours)),
        kernel_repeated=_share((side.repeated for side in kernel), (side.segments for side in kernel)),
        intact=all(side.intact for side in sides),
        errors=tuple(sorted({side.error for side in sides if side.error})),
    )


def scores(pairs: Iterable[Pair]) -> list[Score]:
    """All cells, in the table's order."""
    by_cell: dict[Cell, list[Pair]] = {}
    for pair in pairs:
        by_cell.setdefault(pair.cell, []).append(pair)
    return [score(cell, by_cell[cell]) for cell in sorted(by_cell, key=_place)]


def _place(cell: Cell) -> tuple[int, int, int, int]:
    conditions = list(CONDITIONS)
    return (
        list(ALGORITHMS).index(cell.role),
        ALGORITHMS[cell.role].index(cell.cc),
        cell.rtt,
        conditions.index(cell.condition),
    )


def checks(found: Sequence[Score], *, reneging: int, refused: Mapping[str, int]) -> list[Check]:
    """The requirements. ``reneging``: the kernels' TCPSACKReneging; ``refused``: frames that others than paths lost."""
    ratios = [0.0 if math.isnan(item.ratio) else item.ratio for item in found]
    if not found:
        return [Check("something was measured", False, "nothing")]
    worst = min(found, key=lambda item: 0.0 if math.isnan(item.ratio) else item.ratio)
    broken = [str(item.cell) for item in found if not item.intact]
    excess = max(found, key=lambda item: item.spurious - item.kernel_spurious)
    over = excess.spurious - excess.kernel_spurious
    return [
        Check(f"the median ratio is at least {MEDIAN:g}", median(ratios) >= MEDIAN, f"{median(ratios):.3f}"),
        Check(f"no ratio is below {WORST:g}", min(ratios) >= WORST, f"{min(ratios):.3f} ({worst.cell})"),
        Check("SHA-256 is equal at both ends of every transfer", not broken, ", ".join(broken) or "all equal"),
        Check("the kernel never found SACKed data given up (TCPSACKReneging)", reneging == 0, str(reneging)),
        Check(
            f"spurious retransmissions (DSACK) are at most the kernel's plus {SPURIOUS:.0%} of the segments",
            over <= SPURIOUS,
            f"{over:+.2%} ({excess.cell})",
        ),
        Check("nothing was lost outside the paths", not refused, _listed(refused)),
    ]


def big_check(pair: Pair) -> Check:
    """Whether the fast path was filled. The kernel's share of it is what this machine carries."""
    verb = "sending" if pair.cell.role == SEND else "receiving"
    ours, kernel = pair.ours, pair.kernel
    shares = f"{ours.steady / pair.cell.rate:.0%} of the path, the kernel {kernel.steady / pair.cell.rate:.0%}"
    path = f"{pair.cell.rate / 1e9:g} Gbit/s x {pair.cell.rtt} ms"
    return Check(
        f"one connection, {verb}, fills {path} to {FILLED:.0%} of what the kernel does",
        ours.intact and kernel.intact and ours.steady >= FILLED * kernel.steady > 0,
        shares if ours.intact and kernel.intact else f"not intact: {ours.error or kernel.error}",
    )


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "nothing"


def _text(item: Score | None) -> str:
    if item is None:
        return "[dim]-[/]"
    if math.isnan(item.ratio):
        return "[bold red]none[/]"
    style = "bold red" if item.ratio < WORST or not item.intact else "yellow" if item.ratio < MEDIAN else "green"
    noise = "" if math.isnan(item.noise) else f" [dim]±{item.noise:.2f}[/]"
    return f"[{style}]{item.ratio:.2f}[/]{noise} [dim]{item.kernel / 1e6:4.1f}[/]"


def table(found: Sequence[Score], name: str = "usertcp") -> Table:
    """The ratios: a row for each RTT and condition, a column for each role and algorithm."""
    drawn = Table(
        title=f"goodput of {name} / goodput of the kernel, ± standard error, and the kernel's in Mbit/s",
        title_justify="left",
    )
    drawn.add_column("RTT", justify="right")
    drawn.add_column("condition")
    columns = [(role, cc) for role, algorithms in ALGORITHMS.items() for cc in algorithms]
    columns = [key for key in columns if any((item.cell.role, item.cell.cc) == key for item in found)]
    for role, cc in columns:
        drawn.add_column(f"{name} sends\n{cc}" if role == "send" else f"{name} receives\nkernel {cc}", justify="right")
    by_place = {(item.cell.rtt, item.cell.condition, item.cell.role, item.cell.cc): item for item in found}
    rows = sorted({(item.cell.rtt, list(CONDITIONS).index(item.cell.condition)) for item in found})
    for number, (rtt, at) in enumerate(rows):
        condition = list(CONDITIONS)[at]
        last = number + 1 == len(rows) or rows[number + 1][0] != rtt
        cells = [_text(by_place.get((rtt, condition, role, cc))) for role, cc in columns]
        drawn.add_row(f"{rtt} ms", CONDITIONS[condition], *cells, end_section=last)
    return drawn
