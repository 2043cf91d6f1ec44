"""The fuzzers' inputs, played again without a fuzzer: those that somebody thought of, and those that were found.

``make fuzz`` looks for more (docs/fuzzing.md).
"""

from pathlib import Path

import pytest

from tests.fuzz import seeds
from tests.fuzz.reduce import reduce
from tests.fuzz.targets import CORPUS, TARGETS, Target, target_of

LARGEST = 300 << 10  # bytes of all inputs that the repository keeps


def kept(target: Target) -> list[Path]:
    return sorted(target.corpus.iterdir())


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_that_is_kept_plays_without_a_finding(name: str) -> None:
    target = TARGETS[name]
    run = target.run
    for path in kept(target):
        try:
            run(path.read_bytes())
        except Exception as error:
            error.add_note(f"python -m tests.fuzz --replay {path}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_that_were_thought_of_are_there_as_they_are_made(name: str) -> None:
    made = dict(seeds.SEEDS[name]())
    there = {path.name: path.read_bytes() for path in kept(TARGETS[name])}
    assert made.items() <= there.items(), "python -m tests.fuzz.seeds"
    assert all(len(data) <= TARGETS[name].longest for data in there.values())


def test_inputs_that_are_kept_are_few_and_small() -> None:
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(sizes) <= LARGEST


def test_target_is_told_by_the_directory_of_an_input(tmp_path: Path) -> None:
    assert target_of(tmp_path / "build" / "fuzz" / "api" / "crash-1") is TARGETS["api"]
    with pytest.raises(ValueError, match="no target"):
        target_of(tmp_path / "crash-1")


def test_input_that_fails_is_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(data: bytes) -> None:
        assert b"\x07" not in data[::16]

    monkeypatch.setattr("tests.fuzz.target_api.run", run)
    found = reduce(TARGETS["api"], bytes(range(1, 17)) * 4 + b"\x07" * 16 + bytes(range(1, 17)))
    assert found == b"\x07"
