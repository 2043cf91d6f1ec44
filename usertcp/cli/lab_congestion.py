"""``usertcp lab congestion``: congestion control algorithms on one simulated bottleneck, as a table and a plot."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from usertcp.cli.causes import doing
from usertcp.cli.options import console, seconds
from usertcp.lab import congestion_plot
from usertcp.lab.congestion import FRAME, Bottleneck, Experiment, Flow, Outcome
from usertcp.link.loss import GilbertElliott, Loss, RandomLoss
from usertcp.link.path import Discipline, Reorder
from usertcp.link.queue import DropTail
from usertcp.link.queue_codel import CoDel
from usertcp.link.queue_red import Red
from usertcp.tcp.cc import registry
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.ecn_policy import Ecn
from usertcp.units import MS, from_seconds

PREFERRED: Final = ("reno", "cubic", "bbr")
SCALES: Final = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}
PRODUCTS: Final = {"droptail": 1.0, "codel": 4.0, "red": 3.0}  # the disciplines, and what they hold unless told


def bits(text: str) -> int:
    """A type of option: a rate in bit/s, as in 10M."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmg]?)", text.strip().lower())
    rate = round(float(found[1]) * SCALES[found[2]]) if found else 0
    if not 10_000 <= rate <= 100_000_000_000:
        raise click.BadParameter(f"{text!r} is no rate: give bit/s, from 10k to 100G, like 10M")
    return rate


def share(text: str | float) -> float:
    """A type of option: a share of all frames, as in 1% or 0.01."""
    word = str(text).strip()
    try:
        value = float(word.removesuffix("%")) / (100 if word.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise click.BadParameter(f"{text!r} is no share: give it like 1% or 0.01")
    return value


def algorithms(text: str) -> tuple[str, ...]:
    """A type of option: names of congestion control algorithms, separated by commas."""
    names = tuple(word.strip() for word in text.split(",") if word.strip())
    for name in names:
        if name not in registry.NAMES:
            raise click.BadParameter(f"there is no {name!r}; there is: {', '.join(registry.NAMES)}")
    if not names:
        raise click.BadParameter("name at least one algorithm")
    return names


def picture(text: str) -> Path:
    """A type of option: a file to draw to."""
    path = Path(text)
    if path.suffix not in congestion_plot.FORMATS:
        raise click.BadParameter(f"{text!r} must end in {' or '.join(congestion_plot.FORMATS)}")
    return path


@dataclass(frozen=True, slots=True)
class QueueChoice:
    """A discipline by its name, and how many bandwidth-delay products it holds."""

    name: str
    products: float

    def over(self, bdp: int) -> Discipline:
        """The discipline for a bottleneck of ``bdp`` bytes; RED averages over about four round trips."""
        limit = max(round(bdp * self.products), 3000)
        if self.name == "codel":
            return CoDel(limit=limit)
        if self.name == "red":
            return Red(limit // 12, limit // 2, weight=min(FRAME / (4 * bdp), 1), limit=limit)
        return DropTail(limit)


def queue_choice(text: str) -> QueueChoice:
    """A type of option: a discipline, as in droptail, droptail:2 or codel."""
    name, _, size = text.partition(":")
    try:
        products = float(size) if size else PRODUCTS.get(name, 0.0)
    except ValueError:
        products = 0.0
    if name not in PRODUCTS or not 0 < products <= 1000:
        raise click.BadParameter(
            f"{text!r} is no queue: give {', '.join(PRODUCTS)}, and its size in bandwidth-delay products after a colon"
        )
    return QueueChoice(name, products)


@click.command()
@click.option("--cc", metavar="NAME,...", type=algorithms, help="Algorithms [default: reno,cubic,bbr].")
@click.option(
    "--together", is_flag=True, help="All of them share the bottleneck at once, instead of one after another."
)
@click.option("--flows", metavar="N", type=click.IntRange(1, 100), default=1, help="Connections of each [default: 1].")
@click.option("--rate", metavar="BITS", type=bits, default="10M", help="Of the bottleneck, bit/s [default: 10M].")
@click.option("--rtt", metavar="SECONDS", type=seconds, default="0.05", help="Without a queue [default: 0.05].")
@click.option(
    "--queue",
    metavar="NAME[:SIZE]",
    type=queue_choice,
    default="droptail",
    help="droptail, codel or red; SIZE in bandwidth-delay products [default: droptail:1].",
)
@click.option("--ecn", is_flag=True, help="The flows speak AccECN, and codel and red mark instead of dropping.")
@click.option("--loss", metavar="SHARE", type=share, default="0", help="Data lost by chance, as in 1%.")
@click.option("--burst", metavar="FRAMES", type=click.IntRange(1), help="Lose in bursts of so many on average.")
@click.option("--ack-loss", metavar="SHARE", type=share, default="0", help="Acknowledgments lost by chance.")
@click.option("--reorder", metavar="SHARE", type=share, default="0", help="Data that is up to half an RTT late.")
@click.option("--seconds", "duration", metavar="SECONDS", type=seconds, default="20", help="How long [default: 20].")
@click.option("--seed", metavar="N", type=int, default=1, help="Of everything random [default: 1].")
@click.option("--out", metavar="FILE", type=picture, help="Draw it there too: .png or .svg (needs matplotlib).")
def congestion(
    cc: tuple[str, ...] | None,
    together: bool,
    flows: int,
    rate: int,
    rtt: float,
    queue: QueueChoice,
    ecn: bool,
    loss: float,
    burst: int | None,
    ack_loss: float,
    reorder: float,
    duration: float,
    seed: int,
    out: Path | None,
) -> int:
    """Run congestion control algorithms over one simulated bottleneck and compare them.

    Nothing touches the machine's network, and no root is needed: the stacks are real, the network and the clock are
    simulated, and the same seed gives the same figures. Each algorithm has the bottleneck for itself unless --together.
    """
    names = cc or tuple(name for name in PREFERRED if name in registry.NAMES)
    if ecn and queue.name == "droptail":
        raise click.UsageError("a droptail queue marks nothing: with --ecn give --queue codel or red")
    if out is not None:
        congestion_plot.require()
        with doing("drawing"):
            out.parent.resolve(strict=True)  # known before the first run, not after it
    base = Bottleneck(rate=rate, rtt=from_seconds(rtt))
    late = Reorder(reorder, base.rtt // 2) if reorder else None
    bottleneck = Bottleneck(rate, base.rtt, queue.over(base.bdp), ecn, _loss(loss, burst), ack_loss, late)
    config = TcpConfig(ecn=Ecn.ACCURATE if ecn else Ecn.OFF)
    output = console()
    title = _title(bottleneck, queue, {"loss": loss, "ACK loss": ack_loss, "reordering": reorder}, burst)
    groups = [names] if together else [(name,) for name in names]
    outcomes = []
    for group in groups:
        heading = " + ".join(group)
        with output.status(f"simulating {heading}"):
            experiment = Experiment(
                bottleneck, [Flow(name, config=config) for name in group for _ in range(flows)], seed=seed
            )
            outcomes.append((heading, experiment.run(from_seconds(duration))))
    _print(output, title, rate, outcomes)
    if out is not None:
        with doing("drawing"):
            congestion_plot.draw(out, title, outcomes)
        output.print(f"drawn: {out}")
    return 0


def _loss(loss: float, burst: int | None) -> Loss:
    """The loss model of --loss and --burst."""
    if burst is None:
        return RandomLoss(loss)
    if not loss:
        raise click.UsageError("--burst says how losses come, not how many there are: give --loss, too")
    try:
        return GilbertElliott(loss, burst)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _title(bottleneck: Bottleneck, choice: QueueChoice, shares: dict[str, float], burst: int | None) -> str:
    """One line about the bottleneck."""
    words = [f"{bottleneck.rate / 1e6:g} Mbit/s", f"RTT {bottleneck.rtt / MS:g} ms"]
    words.append(f"{choice.name} of {choice.products:g} BDP")
    words += [f"{name} {100 * part:.3g} %" for name, part in shares.items() if part]
    if bottleneck.ecn:
        words.append("ECN")
    if burst is not None:
        words.append(f"in bursts of {burst}")
    return ", ".join(words)


def _print(output: Console, title: str, rate: int, outcomes: Sequence[tuple[str, Outcome]]) -> None:
    """A row for each flow, with its queue's delay, and fairness where there is more than one."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for heading in ("goodput", "of the rate", "sent again", "queue, mean", "queue, 95 %", "dropped", "marked", "Jain"):
        table.add_column(heading, justify="right")
    for heading, outcome in outcomes:
        many = len(outcome.flows) > 1
        waits = (f"{outcome.delay_mean / MS:.1f} ms", f"{outcome.delay_95 / MS:.1f} ms")
        table.add_row(
            heading if not many or " " in heading else f"{heading} × {len(outcome.flows)}",
            *_share_of(outcome.goodput, outcome.retransmitted, rate),
            *waits,
            str(outcome.drops),
            str(outcome.marks) if outcome.marks else "",
            f"{outcome.jain:.3f}" if many else "",
        )
        for n, result in enumerate(outcome.flows if many else (), 1):
            table.add_row(f"  {result.flow.congestion} {n}", *_share_of(result.goodput, result.retransmitted, rate))
    output.print(table)


def _share_of(goodput: float, retransmitted: float, rate: int) -> tuple[str, str, str]:
    return f"{goodput / 1e6:.2f} Mbit/s", f"{goodput / rate:.1%}", f"{retransmitted:.2%}"
