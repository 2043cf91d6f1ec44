"""What is measured: cells, the paths they run over, and how often each is run.

A *cell* is one combination of role, congestion control, round-trip time and condition. It is run as several *pairs*: at
the same time, usertcp and the kernel each make one transfer with the same peer, over two paths of equal settings whose
faults are drawn from equal seeds. What disturbs the machine meanwhile disturbs both.

    role     send: the side under test sends with the congestion control named; receive: the peer sends with it to them
    peer     the kernel's TCP, in both transfers

How often a cell is run follows from how much chance there is in it. Goodput under random loss varies from one seed to
the next by about half the inverse root of the number of losses met, so slow cells, which meet few, get more pairs; they
cost the relay little. The rates assumed for that are RFC 3819's and RFC 9438's rules of thumb, not results.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

from usertcp.link.loss import GilbertElliott, Loss, NoLoss, Outage, RandomLoss
from usertcp.link.path import PathConfig, Reorder
from usertcp.link.queue import DropTail
from usertcp.units import KIB, MS, SEC

SEND: Final = "send"
RECEIVE: Final = "receive"
RATE: Final = 20_000_000  # bit/s of each path
MIN_QUEUE: Final = 64 * KIB  # bytes; the queue has a bandwidth-delay product, at least this
MSS: Final = 1448  # bytes of text in a full segment with timestamps
FRAME: Final = 1514  # bytes of a full frame

RTTS: Final = (20, 50, 100)  # ms
ALGORITHMS: Final = {SEND: ("reno", "cubic", "bbr"), RECEIVE: ("cubic", "bbr")}
CONDITIONS: Final = {
    "clean": "no loss",
    "loss-0.1": "0.1 % random loss",
    "loss-1": "1 % random loss",
    "loss-3": "3 % random loss",
    "bursts": "1 % loss in bursts",
    "reorder": "5 % late by up to half an RTT",
    "outage": "100 ms of outage every 2 s",
    "ack-loss": "20 % of ACKs lost",
}
LOSSES: Final = {"loss-0.1": 0.001, "loss-1": 0.01, "loss-3": 0.03, "bursts": 0.0025}  # loss events a frame

PAIRS: Final = 3  # a cell's, at least
CHANCY: Final = ("reorder", "outage")  # one event more or less decides about seconds to come, at long round trips
CHANCY_RTT: Final = 50  # ms
CHANCY_PAIRS: Final = 8
MOST_PAIRS: Final = 10
EVENTS: Final = 150  # losses that a cell's pairs are to meet together


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One number of the table. ``rtt`` in ms, ``rate`` in bit/s."""

    role: str
    cc: str
    rtt: int
    condition: str
    rate: int = RATE

    def __str__(self) -> str:
        return f"{self.role} {self.cc} {self.rtt} ms {self.condition}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "cc": self.cc,
            "rtt": self.rtt,
            "condition": self.condition,
            "rate": self.rate,
        }

    @property
    def bdp(self) -> int:
        """Bytes that the path holds."""
        return self.rate * self.rtt // 8000

    def expected_rate(self) -> float:
        """bit/s that a good TCP is likely to reach, for planning."""
        p = LOSSES.get(self.condition)
        if p is None or self.cc == "bbr":
            return float(self.rate)
        rtt = self.rtt / 1000
        windows = [math.sqrt(1.5 / p)]  # segments (RFC 3819 §8.5.1, from Mathis et al.)
        if self.cc == "cubic":
            windows.append(1.054 * (rtt / p) ** 0.75)  # RFC 9438 §5.1
        return min(self.rate, max(windows) * FRAME * 8 / rtt)

    def pairs(self, seconds: float) -> int:
        """How often it is run for ``seconds`` each."""
        p = LOSSES.get(self.condition)
        if self.cc == "bbr":
            return PAIRS
        if p is None:
            return CHANCY_PAIRS if self.condition in CHANCY and self.rtt >= CHANCY_RTT else PAIRS + 1
        events = self.expected_rate() / (8 * FRAME) * seconds * p
        return min(MOST_PAIRS, max(PAIRS, math.ceil(EVENTS / events)))


@dataclass(frozen=True, slots=True)
class Job:
    """One transfer: a side's half of one pair. ``port`` is the peer's, and names the job everywhere."""

    cell: Cell
    seed: int
    seconds: float
    port: int

    def as_dict(self) -> dict[str, Any]:
        return {"cell": self.cell.as_dict(), "seed": self.seed, "seconds": self.seconds, "port": self.port}


def job_from(words: dict[str, Any]) -> Job:
    """The reverse of ``Job.as_dict``."""
    return Job(Cell(**words["cell"]), words["seed"], words["seconds"], words["port"])


def all_cells(rate: int = RATE) -> list[Cell]:
    """The whole table."""
    return [
        Cell(role, cc, rtt, condition, rate)
        for role, algorithms in ALGORITHMS.items()
        for cc in algorithms
        for rtt in RTTS
        for condition in CONDITIONS
    ]


BIG: Final = tuple(Cell(role, "cubic", 100, "clean", 1_000_000_000) for role in (SEND, RECEIVE))

QUICK: Final = (("send", "reno", 20, "loss-1"), ("send", "reno", 20, "reorder"), ("receive", "cubic", 20, "loss-1"))


def quick_cells(rate: int = RATE) -> list[Cell]:
    """A few cells that say in seconds whether everything works."""
    return [Cell(*words, rate) for words in QUICK]


def paths(cell: Cell, seed: int) -> tuple[PathConfig, PathConfig]:
    """The path of the data and that of the acknowledgments.

    The bottleneck lies on the data's way; acknowledgments meet delay alone, and the faults meant for them. An outage
    strikes both ways at once, from a time on that the seed shifts within its period. A burst strikes every second of
    some eight frames: if it lost all of them, what is sent again after a time-out, alone, would mostly be lost as well,
    and waiting for ever longer time-outs would be all that is measured.
    """
    half = cell.rtt * MS // 2
    queue = DropTail(max(cell.bdp, MIN_QUEUE))
    loss: Loss = NoLoss()
    ack_loss: Loss = NoLoss()
    reorder = None
    if cell.condition in ("loss-0.1", "loss-1", "loss-3"):
        loss = RandomLoss(LOSSES[cell.condition])
    elif cell.condition == "bursts":
        loss = GilbertElliott(loss=0.01, burst=8, in_bad=0.5)
    elif cell.condition == "reorder":
        reorder = Reorder(p=0.05, by=half)
    elif cell.condition == "outage":
        loss = ack_loss = Outage(start_at=SEC + seed % 8 * SEC // 4, duration=100 * MS, period=2 * SEC)
    elif cell.condition == "ack-loss":
        ack_loss = RandomLoss(0.2)
    elif cell.condition != "clean":
        raise ValueError(f"there is no condition {cell.condition!r}")
    return (
        PathConfig(rate=cell.rate, delay=half, queue=queue, loss=loss, reorder=reorder),
        PathConfig(delay=cell.rtt * MS - half, loss=ack_loss),
    )
