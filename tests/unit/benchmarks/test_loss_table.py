"""The benchmark under loss: what its transfers add up to, and what they must."""

import math
from io import StringIO

import pytest
from rich.console import Console

from benchmarks.loss_cells import BIG, Cell
from benchmarks.loss_table import Check, Pair, Score, Side, big_check, checks, jackknife, scores, table

CUBIC = Cell("send", "cubic", 50, "loss-1")
BBR = Cell("receive", "bbr", 20, "clean")


def side(goodput: float, *, intact: bool = True, segments: int = 1000, dsacks: int = 0, error: str = "") -> Side:
    return Side(goodput, intact, segments, dsacks, dsacks, error)


def pair(cell: Cell, ours: Side, kernel: Side, seed: int = 1) -> Pair:
    return Pair(cell, seed, ours, kernel)


def holding(pairs: list[Pair], *, reneging: int = 0, refused: int = 0) -> dict[str, bool]:
    """The requirements, by their first words."""
    judged = checks(scores(pairs), reneging=reneging, refused={"r1 received": refused} if refused else {})
    return {" ".join(check.statement.split()[:3]): check.holds for check in judged}


GOOD = [pair(CUBIC, side(9.6e6), side(10e6)), pair(BBR, side(19e6), side(20e6))]


def test_goodputs_at_the_bounds_hold() -> None:
    assert all(holding(GOOD).values())


def test_a_ratio_is_of_the_sums_not_the_mean_of_ratios() -> None:
    (found,) = scores([pair(CUBIC, side(1e6), side(2e6)), pair(CUBIC, side(9e6), side(8e6), 2)])
    assert found.ratio == 1.0
    assert found.pairs == 2


def test_one_slow_cell_among_good_ones_fails_the_worst_alone() -> None:
    slow = Cell("send", "reno", 20, "outage")
    found = holding([*GOOD, pair(slow, side(8.4e6), side(10e6))])
    assert [name for name, holds in found.items() if not holds] == ["no ratio is"]


def test_cells_all_a_little_slow_fail_the_median_alone() -> None:
    found = holding([pair(CUBIC, side(9.4e6), side(10e6)), pair(BBR, side(9.3e6), side(10e6))])
    assert [name for name, holds in found.items() if not holds] == ["the median ratio"]


def test_one_broken_stream_of_either_side_fails_the_digest() -> None:
    for broken in (
        pair(CUBIC, side(9.6e6, intact=False), side(10e6)),
        pair(CUBIC, side(9.6e6), side(10e6, intact=False)),
    ):
        assert not holding([*GOOD, broken])["SHA-256 is equal"]


def test_reneging_and_losses_elsewhere_fail() -> None:
    assert not holding(GOOD, reneging=1)["the kernel never"]
    assert not holding(GOOD, refused=1)["nothing was lost"]


@pytest.mark.parametrize(("ours", "kernel", "holds"), [(10, 0, True), (11, 0, False), (31, 21, True), (32, 21, False)])
def test_duplicates_reported_count_against_the_kernels(ours: int, kernel: int, holds: bool) -> None:
    pairs = [pair(CUBIC, side(10e6, dsacks=ours), side(10e6, dsacks=kernel))]
    assert holding(pairs)["spurious retransmissions (DSACK)"] is holds


def test_a_kernel_without_goodput_gives_no_ratio_and_fails() -> None:
    (found,) = scores([pair(CUBIC, side(1e6), side(0.0, error="refused"))])
    assert math.isnan(found.ratio)
    assert found.errors == ("refused",)
    judged = checks([found], reneging=0, refused={})
    assert not judged[0].holds
    assert not judged[1].holds


def test_nothing_measured_fails() -> None:
    assert [check.holds for check in checks([], reneging=0, refused={})] == [False]


def test_the_noise_of_equal_pairs_is_none_and_of_one_unknown() -> None:
    assert jackknife([5.0, 5.0, 5.0], [4.0, 4.0, 4.0]) == 0
    assert math.isnan(jackknife([5.0], [4.0]))
    assert math.isnan(jackknife([5.0, 5.0], [4.0, 0.0]))


def test_the_noise_with_a_constant_denominator_is_the_mean_s_standard_error() -> None:
    ours = [8.0, 10.0, 12.0]
    assert jackknife(ours, [10.0] * 3) == pytest.approx(math.sqrt(sum((x - 10) ** 2 for x in ours) / 2 / 3) / 10)


@pytest.mark.parametrize(
    ("ours", "kernel", "holds"),
    [(0.9e9, 1e9, True), (0.89e9, 1e9, False), (0.45e9, 0.5e9, True), (0.0, 0.0, False)],
)
def test_the_fast_path_is_filled_by_the_kernel_s_measure(ours: float, kernel: float, holds: bool) -> None:
    assert big_check(Pair(BIG[0], 1, Side(1e8, True, steady=ours), Side(1e8, True, steady=kernel))).holds is holds


def test_a_broken_stream_does_not_fill_the_fast_path() -> None:
    broken = Side(1e9, False, error="reset", steady=1e9)
    check = big_check(Pair(BIG[1], 1, broken, Side(1e9, True, steady=1e9)))
    assert not check.holds
    assert "reset" in check.seen


def drawn(found: list[Score]) -> list[str]:
    console = Console(file=StringIO(), width=140)
    console.print(table(found))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


def test_the_table_has_a_row_a_condition_and_a_column_an_algorithm() -> None:
    lines = drawn(scores(GOOD))
    (cubic,) = (line for line in lines if "1 % random loss" in line)
    (bbr,) = (line for line in lines if "no loss" in line)
    assert "50 ms" in cubic
    assert "0.96" in cubic
    assert "20 ms" in bbr
    assert "0.95" in bbr
    assert any("usertcp receives" in line for line in lines)
    assert not any("reno" in line for line in lines)


def test_a_check_names_the_cell_that_decides_it() -> None:
    slow = Cell("send", "reno", 20, "outage")
    judged = checks(scores([*GOOD, pair(slow, side(5e6), side(10e6))]), reneging=0, refused={})
    assert isinstance(judged[1], Check)
    assert judged[1].seen == "0.500 (send reno 20 ms outage)"
