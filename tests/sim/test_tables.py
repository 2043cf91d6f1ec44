"""The figures of every congestion control on every kind of bottleneck, kept in files: see tests/support/snapshot.py.

A table for each queue discipline. Two flows share 5 Mbit/s for eight seconds; their round trip without a queue is
60 ms, which makes 37 KB, or 25 segments, of bandwidth-delay product. The first second is left out of the figures.
"""

from pathlib import Path
from typing import Final

import pytest

from tests.support.snapshot import compare
from usertcp.lab.congestion import Bottleneck, Experiment, Flow, Outcome
from usertcp.link.loss import GilbertElliott, RandomLoss
from usertcp.link.path import Discipline, Reorder
from usertcp.link.queue import DropTail
from usertcp.link.queue_codel import CoDel
from usertcp.link.queue_red import Red
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.ecn_policy import Ecn
from usertcp.units import MS, SEC

SNAPSHOTS: Final = Path(__file__).with_name("snapshots")
ALGORITHMS: Final = ("reno", "cubic", "bbr")
RATE: Final = 5_000_000
RTT: Final = 60 * MS
BDP: Final = Bottleneck(RATE, RTT).bdp

QUEUES: Final[dict[str, Discipline]] = {
    "droptail": DropTail(BDP),
    "codel": CoDel(),
    "red": Red(BDP // 4, BDP * 3 // 2, weight=0.01, limit=3 * BDP),
}


def conditions(queue: Discipline) -> dict[str, Bottleneck]:
    """What may go wrong on a bottleneck, by its name in the table."""
    marking = {} if isinstance(queue, DropTail) else {"ECN": Bottleneck(RATE, RTT, queue, ecn=True)}
    return {
        "no loss": Bottleneck(RATE, RTT, queue),
        "1 % at random": Bottleneck(RATE, RTT, queue, loss=RandomLoss(0.01)),
        "1 % in bursts of 5": Bottleneck(RATE, RTT, queue, loss=GilbertElliott(0.01, 5)),
        "5 % late": Bottleneck(RATE, RTT, queue, reorder=Reorder(0.05, RTT // 2)),
        "20 % of ACKs lost": Bottleneck(RATE, RTT, queue, ack_loss=0.2),
        **marking,
    }


def row(name: str, condition: str, outcome: Outcome) -> str:
    """A line of the table."""
    figures = f"{outcome.goodput / 1e6:7.2f}  {outcome.retransmitted:10.2%}"
    waits = f"{outcome.delay_mean / MS:8.1f}  {outcome.delay_95 / MS:8.1f}"
    return f"{condition:18}  {name:5}  {figures}  {waits}  {outcome.drops:7}  {outcome.marks:6}  {outcome.jain:5.3f}\n"


@pytest.mark.timeout(1800)  # some ten seconds on an idle machine
@pytest.mark.parametrize("name", QUEUES)
def test_two_flows_of_each_algorithm_make_the_figures_of_the_table(name: str, request: pytest.FixtureRequest) -> None:
    text = (
        f"{name}: 2 flows, {RATE / 1e6:g} Mbit/s, round trip {RTT // MS} ms, 8 s;"
        " goodput in Mbit/s, queue delay in ms\n\n"
        "condition           cc     goodput  sent again  q. mean   q. 95 %  dropped  marked   Jain\n"
    )
    outcomes: dict[tuple[str, str], Outcome] = {}
    for condition, bottleneck in conditions(QUEUES[name]).items():
        for algorithm in ALGORITHMS:
            config = TcpConfig(ecn=Ecn.ACCURATE if bottleneck.ecn else Ecn.OFF)
            outcome = Experiment(bottleneck, [Flow(algorithm, config=config)] * 2, settle=SEC).run(8 * SEC)
            text += row(algorithm, condition, outcome)
            outcomes[condition, algorithm] = outcome
    compare(SNAPSHOTS / f"{name}.txt", text, request)
    for algorithm in ALGORITHMS:  # reordering by up to half a round trip costs less than a tenth
        assert outcomes["5 % late", algorithm].goodput > 0.9 * outcomes["no loss", algorithm].goodput
    if name == "droptail":
        assert outcomes["no loss", "bbr"].delay_mean < outcomes["no loss", "cubic"].delay_mean
