"""The cost of a segment in process: that it is counted, that it is the same at every run, and what counts as growth."""

import gc
import json
from pathlib import Path

import pytest

from benchmarks.core import Cost, cost, grown, measured, update, version
from benchmarks.core_cases import CASES, Case, Ends
from benchmarks.core_meters import Bytecode, Processor
from tests.support.pure import pure_only

SOFTWARE, TASK_CLOCK = 1, 1  # perf_event_open: what every kernel counts, if it lets us


@pure_only
@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.name)
def test_case_repeated_in_new_stacks_costs_the_same_to_the_instruction(kind: type[Case]) -> None:
    found = []
    gc.disable()  # hypothesis has itself called whenever it runs
    try:
        for _ in range(2):
            case, meter = kind(Ends(gso=kind.gso)), Bytecode()
            measured(case, meter, 8)  # not warm yet: what is specialised must not matter
            found.append((measured(case, meter, 8), meter.instructions, meter.calls))
    finally:
        gc.enable()
    assert found[0] == found[1]
    assert min(found[0]) > 0


def test_case_leaves_the_ends_at_rest() -> None:
    ends = Ends(idle=3)
    for kind in CASES:
        case = kind(ends)
        measured(case, Bytecode(), 8)
        case.close()
    assert len(list(ends.us.stack.connections())) <= 3 + 1  # connect may have been in the middle of one


def test_bytecode_counts_instructions_and_calls_of_python_and_c() -> None:
    def work() -> int:
        return len([]) + len([])

    meter = Bytecode()
    meter.start()
    meter.stop()
    nothing = meter.calls
    meter.start()
    work()
    meter.stop()
    assert meter.calls - 2 * nothing == 3
    assert 5 < meter.instructions < 50


def test_processor_counts_upwards_where_the_kernel_lets_us() -> None:
    try:
        meter = Processor(SOFTWARE, TASK_CLOCK)
    except OSError:
        pytest.skip("perf_event_open is not permitted here")
    meter.start()
    sum(range(10_000))
    meter.stop()
    meter.close()
    assert meter.total > 0


@pure_only
def test_cost_has_what_every_machine_can_count() -> None:
    found = cost(CASES[0](Ends()))
    assert found.ns > 0
    assert found.kept().keys() == {"instructions", "calls"}


BASELINE = {"bulk in": {"instructions": 1000.0, "calls": 100.0}}


@pytest.mark.parametrize(
    ("instructions", "calls", "lines"), [(1100, 110, 0), (1101, 100, 1), (900, 111, 1), (1200, 120, 2), (10, 1, 0)]
)
def test_growth_of_more_than_a_tenth_is_told(instructions: float, calls: float, lines: int) -> None:
    assert len(grown({"bulk in": Cost(1.0, instructions, calls)}, BASELINE)) == lines


def test_growth_without_a_baseline_is_none() -> None:
    assert grown({"bulk in": Cost(1.0, 5000, 500)}, {}) == []


def test_case_of_which_nothing_was_kept_is_told() -> None:
    costs = {"bulk in": Cost(1.0, 1000, 100), "ping-pong": Cost(1.0, 1, 1), "ping-pong, 5 idle": Cost(1.0, 1, 1)}
    assert grown(costs, BASELINE) == ["ping-pong: no figures are kept of it"]


def test_growth_with_idle_connections_is_told_without_a_baseline() -> None:
    costs = {"bulk in": Cost(1.0, 1000, 100), "bulk in, 10,000 idle": Cost(1.0, 1200, 100)}
    (line,) = grown(costs, {})
    assert "flat" in line


def test_update_keeps_other_versions_and_other_cases(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(json.dumps({"2.7": BASELINE, version(): BASELINE}))
    update({"ping-pong": Cost(1.0, 10.04, 1)}, path)
    kept = json.loads(path.read_text())
    assert kept == {"2.7": BASELINE, version(): {**BASELINE, "ping-pong": {"instructions": 10.0, "calls": 1}}}
