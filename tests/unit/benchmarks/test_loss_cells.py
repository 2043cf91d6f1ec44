"""The benchmark under loss: which cells there are, over which paths, and how often."""

from random import Random

import pytest

from benchmarks.loss_cells import (
    ALGORITHMS,
    CONDITIONS,
    MIN_QUEUE,
    PAIRS,
    RTTS,
    Cell,
    Job,
    all_cells,
    job_from,
    paths,
    quick_cells,
)
from benchmarks.loss_schedule import plan
from usertcp.frame import PLAIN
from usertcp.link.path import Path
from usertcp.units import MS, SEC

FRAME = bytes(1514)


def cell(condition: str, *, cc: str = "cubic", rtt: int = 100) -> Cell:
    return Cell("send", cc, rtt, condition)


def share_lost(which: Cell, way: int, count: int = 20_000) -> float:
    """Of frames that come a millisecond apart."""
    path = Path(paths(which, 7)[way], Random(7))
    arrived = 0
    for number in range(count):
        path.admit(FRAME, PLAIN, number * MS)
        arrived += len(path.due(number * MS))
    return 1 - (arrived + len(path.due((count + 1000) * MS))) / count


def test_every_combination_is_a_cell_once() -> None:
    cells = all_cells()
    assert len(cells) == len(set(cells)) == sum(map(len, ALGORITHMS.values())) * len(RTTS) * len(CONDITIONS) == 120


def test_quick_cells_are_among_them() -> None:
    assert set(quick_cells()) <= set(all_cells())


@pytest.mark.parametrize(
    ("condition", "data", "acks"),
    [
        ("clean", 0.0, 0.0),
        ("loss-0.1", 0.001, 0.0),
        ("loss-1", 0.01, 0.0),
        ("loss-3", 0.03, 0.0),
        ("bursts", 0.01, 0.0),
        ("reorder", 0.0, 0.0),
        ("outage", 0.05, 0.05),
        ("ack-loss", 0.0, 0.2),
    ],
)
def test_a_condition_loses_its_share_of_data_and_acknowledgments(condition: str, data: float, acks: float) -> None:
    assert share_lost(cell(condition), 0) == pytest.approx(data, rel=0.25)
    assert share_lost(cell(condition), 1) == pytest.approx(acks, rel=0.25)


def test_an_unknown_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="rain"):
        paths(cell("rain"), 1)


@pytest.mark.parametrize("rtt", RTTS)
def test_the_two_ways_make_the_round_trip(rtt: int) -> None:
    data, acks = paths(cell("clean", rtt=rtt), 1)
    assert data.delay + acks.delay == rtt * MS


def test_the_queue_holds_a_round_trip_but_at_least_its_floor() -> None:
    assert paths(cell("clean", rtt=100), 1)[0].queue.limit == 20_000_000 // 80
    assert paths(cell("clean", rtt=20), 1)[0].queue.limit == MIN_QUEUE


def test_reordered_frames_are_late_by_at_most_half_a_round_trip() -> None:
    path = Path(paths(cell("reorder"), 1)[0], Random(1))
    for _ in range(100):
        path.admit(FRAME, PLAIN, 0)
    last = path.config.delay + path.config.delay + 100 * len(FRAME) * 8 * SEC // path.config.rate
    path.due(last)
    assert path.late > 0
    assert path.next_deadline() > last  # nothing is left


def test_slow_cells_are_run_more_often() -> None:
    assert cell("clean").pairs(10) == PAIRS + 1
    assert cell("outage").pairs(10) > cell("outage", rtt=20).pairs(10)
    assert cell("loss-3", cc="bbr").pairs(10) == PAIRS
    assert cell("loss-3").pairs(10) > PAIRS
    assert cell("loss-3").expected_rate() < 2e6


def test_a_job_survives_its_words() -> None:
    job = Job(cell("outage"), 3, 2.5, 10_001)
    assert job_from(job.as_dict()) == job


def test_a_plan_repeats_with_its_seed_and_shares_no_seeds_between_cells() -> None:
    cells = quick_cells()
    plans = plan(cells, 10, 4, 1)
    assert plans == plan(cells, 10, 4, 1) != plan(cells, 10, 4, 2)
    assert len(plans) == len({seed for _, seed in plans}) == 4 * len(cells)
