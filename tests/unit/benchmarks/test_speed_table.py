"""What the runs of the benchmark of speed add up to: which are made, medians, ratios within a round, requirements."""

import math
from dataclasses import replace

import pytest

from benchmarks.speed import arguments, chosen_columns, chosen_rows, plan
from benchmarks.speed_job import Job, job_from
from benchmarks.speed_rows import COLUMNS, ROWS, Run
from benchmarks.speed_table import BETTER, NEEDS, SAME, Results, _number, by_key, by_row, checks, figures
from usertcp.errors import SetupError


def filled(rates: dict[str, list[float]], key: str = "in") -> Results:
    """The row's run with these rates in bytes a second, by column, round by round."""
    row = by_row(key)
    results = Results(rounds=max(map(len, rates.values())), rows=[row])
    for name, values in rates.items():
        run = by_key(name).run(row.run)
        assert run is not None
        for number, value in enumerate(values):
            results.found[number, name, run] = {"amount": value, "seconds": 1.0, "cpu": 1.0}
    return results


def said(results: Results) -> dict[str, bool]:
    return {check.statement: check.holds for check in checks(results)}


def test_ratio_is_taken_within_each_round() -> None:
    results = filled({"veth": [1e9, 2e9, 4e9], "blocking": [5e8, 1e9, 2e9]})
    row = by_row("in")
    assert results.ratio(row, by_key("blocking")) == 0.5
    assert results.middle(row, by_key("blocking")) == 8.0  # Gbit/s


def test_ratio_of_a_column_that_has_not_run_is_not_a_number() -> None:
    results = filled({"veth": [1e9]})
    assert math.isnan(results.ratio(by_row("in"), by_key("aio")))


def test_requirement_holds_from_its_bound_on() -> None:
    statement = "blocking: bulk, kernel → stack is at least 0.7 of the kernel"
    assert said(filled({"veth": [1e9], "blocking": [7e8]}))[statement]
    assert not said(filled({"veth": [1e9], "blocking": [6.9e8]}))[statement]


def test_requirement_on_a_column_that_has_not_run_is_left_out() -> None:
    assert said(filled({"veth": [1e9]})) == {}


def test_better_rival_is_the_measure() -> None:
    statement = "blocking: bulk, kernel → stack is at least 5 times lwip and gvisor"
    assert said(filled({"veth": [1e9], "blocking": [5e8], "lwip": [1e8], "gvisor": [9e7]}))[statement]
    assert not said(filled({"veth": [1e9], "blocking": [5e8], "lwip": [1e8], "gvisor": [1.1e8]}))[statement]


def test_rival_without_offloads_stands_in_the_rows_with_and_without() -> None:
    lwip = by_key("lwip")
    assert lwip.run(by_row("in").run) == lwip.run(by_row("in-plain").run) == lwip.run(by_row("in-sum").run)


def test_plan_makes_a_run_once_that_several_rows_read() -> None:
    runs = plan([by_row("in"), by_row("cpu-in")], [by_key("veth"), by_key("lwip")])
    assert runs == [("veth", Run("in")), ("lwip", Run("in", offload="plain"))]


def test_chosen_rows_bring_their_measure_along() -> None:
    assert [row.key for row in chosen_rows(arguments(["--only", "ping-spin"]))] == ["ping", "ping-spin"]
    assert [row.key for row in chosen_rows(arguments(["--only", "idle*"]))] == ["idle-in", "idle-ping", "idle-memory"]


def test_chosen_columns_bring_their_measure_along() -> None:
    args = arguments(["--columns", "aio", "--only", "in-plain"])
    assert [column.key for column in chosen_columns(args, chosen_rows(args))] == ["veth-off", "aio"]


def test_a_row_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(SetupError) as caught:
        chosen_rows(arguments(["--only", "sideways"]))
    assert "in-bbr" in caught.value.cure


def test_every_requirement_speaks_of_rows_and_columns_that_are_there() -> None:
    rows, columns = {row.key for row in ROWS}, {column.key for column in COLUMNS}
    assert {need.row for need in NEEDS} | set(BETTER) | set(SAME) | set(SAME.values()) <= rows
    assert {need.column for need in NEEDS} <= columns
    assert all(by_key(need.column).run(by_row(need.row).run) for need in NEEDS)


def test_figures_for_a_file_hold_every_round() -> None:
    (kernel, ours) = figures(filled({"veth": [1e9, 1e9], "blocking": [5e8, 7e8]}))
    assert (kernel["column"], kernel["ratio"]) == ("veth", 1.0)
    assert (ours["row"], ours["values"]) == ("in", [4.0, 5.6])
    assert ours["ratio"] == pytest.approx(0.6)


def test_job_reads_what_it_writes() -> None:
    job = Job("ping", "10.0.0.1", 7003, 1.5, 0.2, count=64, spin=50)
    assert job_from(job.as_json()) == job
    assert job_from(replace(job, check=5).as_json()).check == 5


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(75.04, 1, "75.0"), (0.14, 2, "0.14"), (0.0321, 1, "0.032"), (0.00041, 2, "0.00041"), (0.0, 1, "0.0")],
)
def test_numbers_of_slow_ones_are_not_zero(value: float, digits: int, text: str) -> None:
    assert _number(value, digits) == text
