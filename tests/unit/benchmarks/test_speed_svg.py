"""The picture of the ratios: what is in it, and that it can be drawn from what a run has kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import main

TABLE: list[dict[str, Any]] = [
    {"row": "in", "unit": "Gbit/s", "column": "veth", "ratio": 1.0},
    {"row": "in", "unit": "Gbit/s", "column": "blocking", "ratio": 0.7},
    {"row": "in", "unit": "Gbit/s", "column": "blocking-hot", "ratio": 0.8},
    {"row": "ping", "unit": "k/s", "column": "lwip", "ratio": 1.2},
    {"row": "ping-64", "unit": "k/s", "column": "pytcp", "ratio": None},
    {"row": "start", "unit": "ms", "column": "blocking", "ratio": 3.0},
]


def drawn(folder: Path, name: str = "ratios.svg") -> str:
    kept = folder / "kept.json"
    kept.write_text(json.dumps({"table": TABLE}))
    assert main(["--kept", "--json", str(kept), "--svg", str(folder / name)]) == 0
    return (folder / name).read_text()


def test_rows_with_ratios_and_who_has_some_are_named(tmp_path: Path) -> None:
    text = drawn(tmp_path)
    for title in ("bulk, kernel → stack", "1-byte ping-pong, two processors", "usertcp blocking", "compiled", "lwIP C"):
        assert title in text
    for title in ("64 connections", "open()", "PyTCP", "aio", "kernel veth"):
        assert title not in text


def test_same_results_make_the_same_file(tmp_path: Path) -> None:
    assert drawn(tmp_path, "one.svg") == drawn(tmp_path, "other.svg")


def test_results_that_are_not_there_and_a_picture_without_a_name_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--kept", "--json", str(tmp_path / "none.json"), "--svg", str(tmp_path / "x.svg")]) == 2
    assert "holds no results" in capsys.readouterr().out
    assert main(["--kept"]) == 2
    assert "--svg FILE" in capsys.readouterr().out
