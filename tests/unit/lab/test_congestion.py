"""The experiment on a simulated bottleneck: its figures against what is known without it, and its drawings."""

import sys
from itertools import pairwise
from pathlib import Path

import pytest

from usertcp.errors import SetupError
from usertcp.lab import congestion_plot
from usertcp.lab.congestion import Bottleneck, Experiment, Flow, Outcome, jain
from usertcp.link.loss import RandomLoss
from usertcp.link.queue import DropTail
from usertcp.units import MS, SEC

MEGABIT = 1_000_000
SMALL = Bottleneck(rate=4 * MEGABIT, rtt=30 * MS)


@pytest.mark.parametrize(
    ("values", "index"), [([1, 1, 1], 1.0), ([5, 0, 0, 0], 0.25), ([2, 1], 0.9), ([7], 1.0), ([0, 0], 1.0)]
)
def test_jain_index_is_one_for_equals_and_one_in_n_for_a_monopoly(values: list[float], index: float) -> None:
    assert jain(values) == pytest.approx(index)


def test_lone_flow_on_a_deep_queue_fills_the_rate_and_sends_nothing_twice() -> None:
    bottleneck = Bottleneck(rate=4 * MEGABIT, rtt=30 * MS, queue=DropTail(1 << 22))
    outcome = Experiment(bottleneck, [Flow("reno")], settle=SEC).run(4 * SEC)
    assert outcome.goodput == pytest.approx(4 * MEGABIT * 1448 / 1514, rel=0.01)
    assert outcome.retransmitted == 0
    assert outcome.drops == outcome.lost == outcome.marks == 0
    assert outcome.delay_95 >= outcome.delay_mean > 0


def test_loss_without_a_queue_is_what_is_sent_again() -> None:
    bottleneck = Bottleneck(rate=100 * MEGABIT, rtt=10 * MS, queue=DropTail(1 << 22), loss=RandomLoss(0.02))
    outcome = Experiment(bottleneck, [Flow("reno")]).run(4 * SEC)
    assert outcome.lost > 20
    assert 0.01 < outcome.retransmitted < 0.2
    assert outcome.delay_mean < 3 * MS  # that of bursts alone


def test_series_show_the_slow_start_then_a_threshold() -> None:
    outcome = Experiment(SMALL, [Flow("reno")]).run(4 * SEC)
    series = outcome.flows[0].series
    assert len(series.time) == len(series.cwnd) == len(series.srtt) == len(series.throughput) == 4 * SEC // (30 * MS)
    assert all(later - earlier == 30 * MS for earlier, later in pairwise(series.time))
    assert series.ssthresh[2] is None
    assert series.ssthresh[-1] is not None
    assert max(series.cwnd[:10]) > 1.5 * series.cwnd[0]
    assert all(value is None or value >= 30 * MS for value in series.srtt)
    assert max(wait for _, wait in outcome.queue) <= 30 * MS


def test_flows_with_starts_and_round_trips_of_their_own_keep_to_them() -> None:
    flows = [Flow("reno"), Flow("reno", start=2 * SEC, rtt=90 * MS)]
    outcome = Experiment(SMALL, flows, settle=SEC).run(6 * SEC)
    first, second = (result.series for result in outcome.flows)
    assert first.time[0] < 100 * MS
    assert second.time[0] >= 2 * SEC
    assert min(value for value in second.srtt if value) >= 90 * MS
    assert outcome.goodput == pytest.approx(sum(result.goodput for result in outcome.flows))
    assert 0.5 <= outcome.jain <= 1


def test_same_seed_gives_the_same_figures_and_another_seed_others() -> None:
    def play(seed: int) -> Outcome:
        bottleneck = Bottleneck(rate=4 * MEGABIT, rtt=30 * MS, loss=RandomLoss(0.01))
        return Experiment(bottleneck, [Flow("reno")], seed=seed).run(2 * SEC)

    assert play(1) == play(1)
    assert play(1).digest != play(2).digest


def test_experiment_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="before its figures begin"):
        Experiment(SMALL, [Flow("reno", start=SEC)], settle=SEC).run(2 * SEC)


# -- drawings --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return Experiment(SMALL, [Flow("reno"), Flow("reno")]).run(2 * SEC)


@pytest.mark.parametrize(("name", "magic"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_drawing_is_of_the_kind_that_the_name_says(outcome: Outcome, tmp_path: Path, name: str, magic: bytes) -> None:
    path = tmp_path / name
    congestion_plot.draw(path, "a title", [("one", outcome), ("two", outcome)])
    data = path.read_bytes()
    assert data.startswith(magic)
    assert len(data) > 10_000


def test_drawing_as_svg_is_the_same_each_time(outcome: Outcome, tmp_path: Path) -> None:
    paths = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for path in paths:
        congestion_plot.draw(path, "a title", [("one", outcome)])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_drawing_without_matplotlib_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SetupError) as caught:
        congestion_plot.require()
    assert "matplotlib" in caught.value.cause
    assert caught.value.cure == "pip install 'usertcp[plot]'"
