"""``make bench`` does what it says, in short, and leaves nothing behind."""

import json
import sys
from pathlib import Path

from tests.netns.programs import Program
from usertcp.link import netns

COMMAND = [
    sys.executable,
    "-m",
    "benchmarks.speed",
    "--quick",
    "--seconds",
    "0.2",
    "--columns",
    "veth,blocking,aio,socket",
]


def test_two_rows_are_measured_intact_and_leave_nothing(tmp_path: Path) -> None:
    written, drawn = tmp_path / "results.json", tmp_path / "ratios.svg"
    words = ["--only", "in,ping", "--json", str(written), "--svg", str(drawn)]
    with Program(None, [*COMMAND, *words], environment={"COLUMNS": "160"}) as program:
        said = program.finish(code=None).decode()
    assert program.process.returncode in (0, 1), program.errors  # a moment says nothing about the ratios
    results = json.loads(written.read_text())
    assert results["errors"] == [], said
    seen = {(figure["row"], figure["column"]): figure["median"] for figure in results["table"]}
    assert {column for row, column in seen if row == "in"} == {"veth", "blocking", "aio", "socket"}
    assert {column for row, column in seen if row == "ping"} == {"veth", "blocking", "aio", "socket"}
    assert all(value > 0 for value in seen.values()), said
    assert [stream["why"] for stream in results["hashes"] if stream["why"]] == []
    assert drawn.read_text().rstrip().endswith("</svg>")
    assert [name for name in netns.names() if name.startswith(f"usertcp-{program.process.pid}-")] == []


def test_a_row_that_is_not_there_is_named() -> None:
    with Program(None, [*COMMAND, "--only", "sideways"]) as program:
        assert b"no row 'sideways'" in program.finish(code=2)
