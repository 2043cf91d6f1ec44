"""Numbers on a command line that make no sense are refused before anything runs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("benchmarks.blind", ["--guesses", "0"]),
        ("benchmarks.blind", ["--guesses", "-1"]),
        ("benchmarks.flood", ["--syns", "0"]),
        ("benchmarks.flood", ["--clients", "many"]),
        ("benchmarks.soak", ["--minutes", "0"]),
        ("benchmarks.soak", ["--minutes", "inf"]),
        ("benchmarks.soak", ["--loss", "1"]),
        ("tests.fuzz", ["--seconds", "-1"]),
        ("tests.fuzz", ["--replay", "/nowhere/at/all"]),
        ("tests.fuzz", ["--reduce", __file__]),
    ],
)
def test_number_or_file_that_makes_no_sense_is_refused_at_once(module: str, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert words[0] in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
