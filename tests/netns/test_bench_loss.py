"""``make bench-loss`` does what it says, in short, and leaves nothing behind."""

import json
import sys
from pathlib import Path

from tests.netns.programs import Program
from usertcp.link import netns

COMMAND = [sys.executable, "-m", "benchmarks.loss", "--quick", "--seconds", "1", "--repeat", "1"]


def test_quick_run_measures_every_cell_of_it_intact_and_leaves_nothing(tmp_path: Path) -> None:
    written = tmp_path / "results.json"
    with Program(None, [*COMMAND, "--json", str(written)], environment={"COLUMNS": "160"}) as program:
        said = program.finish(code=None).decode()
    assert program.process.returncode in (0, 1), program.errors  # a second says nothing about the ratios
    results = json.loads(written.read_text())
    held = {check["statement"].split(" ")[0]: check["holds"] for check in results["checks"]}
    assert held["SHA-256"], said
    assert held["nothing"], said
    assert len(results["cells"]) == len(results["pairs"]) == 3
    for pair in results["pairs"]:
        for side in (pair["ours"], pair["kernel"]):
            assert side["goodput"] > 1e5, said
            assert side["relay"]["segments"] > 100
    assert [name for name in netns.names() if name.startswith(f"usertcp-{program.process.pid}-")] == []


def test_calibration_finds_two_kernels_alike() -> None:
    with Program(None, [*COMMAND, "--calibrate", "--seconds", "2"], environment={"COLUMNS": "160"}) as program:
        said = program.finish(code=None).decode()
    assert "no ratio is below" in said
    assert "FAILS  SHA" not in said
    assert program.process.returncode in (0, 1), program.errors


def test_an_interrupted_run_leaves_nothing() -> None:
    with Program(None, [*COMMAND, "--seconds", "60"]) as program:
        while "-2" not in [name[-2:] for name in netns.names() if name.startswith(f"usertcp-{program.process.pid}-")]:
            assert program.process.poll() is None
        program.interrupt()
        program.finish(code=None)
    assert program.process.returncode != 0
    assert [name for name in netns.names() if name.startswith(f"usertcp-{program.process.pid}-")] == []


def test_options_that_select_no_cell_say_so() -> None:
    with Program(None, [*COMMAND, "--rtt", "100"]) as program:
        assert b"no cell" in program.finish(code=2)
