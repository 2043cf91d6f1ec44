"""The runner of CPython's tests, with tests that pass, fail, hang and die."""

from pathlib import Path

import pytest

from tests.cpython.__main__ import Score, classes_of
from tests.cpython.plan import Part
from tests.cpython.runner import Outcome, list_tests, run_class

TESTS = """
import os, threading, unittest

class Mixed(unittest.TestCase):
    def test_a_passes(self): pass
    def test_b_dies(self): os._exit(3)
    def test_c_fails(self): self.fail("on purpose")
    def test_d_hangs(self): threading.Event().wait()
    def test_e_is_skipped(self): self.skipTest("no reason")
    def test_f_fails_in_part(self):
        with self.subTest("one"): self.fail("on purpose")
    def test_g_passes(self): pass

class Broken(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise OSError("no set-up")
    def test_a(self): pass

class LikeUDP(unittest.TestCase):
    def test_a(self): pass
"""
WORDS = ["passed", "died", "failed", "hung", "skipped", "failed", "passed"]


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the children write; a package ``test`` lies before the real one."""
    package = tmp_path / "test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "support.py").touch()
    (package / "test_mixed.py").write_text(TESTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "log"


def test_class_with_tests_that_hang_and_die_runs_to_its_end(log: Path) -> None:
    tests = [test for test in list_tests("test_mixed", log) if ".Mixed." in test]
    outcomes = run_class("kernel", "test_mixed", tests, log, limit=1.0)
    assert [outcomes[test].word for test in tests] == WORDS
    assert "on purpose" in outcomes[tests[2]].text


def test_class_whose_set_up_fails_is_missing(log: Path) -> None:
    outcomes = run_class("kernel", "test_mixed", ["test.test_mixed.Broken.test_a"], log)
    assert [outcome.word for outcome in outcomes.values()] == ["missing"]
    assert "no set-up" in log.read_text()


def test_classes_of_a_module_are_those_of_the_plan(log: Path) -> None:
    names = [one.name for one in classes_of(Part("test_mixed", but="UDP"), log)]
    assert names == ["Broken", "Mixed"]


def test_module_that_cannot_be_imported_has_no_tests(log: Path) -> None:
    assert list_tests("test_nothing", log) == []


def test_score_counts_what_passes_on_the_kernel() -> None:
    score = Score()
    score.add(
        {"a": Outcome("passed"), "b": Outcome("passed"), "c": Outcome("failed"), "d": Outcome("passed")},
        {"a": Outcome("passed"), "b": Outcome("hung"), "c": Outcome("passed")},
    )
    assert (score.usertcp, score.kernel) == (1, 3)
    assert {name: got.word for name, got in score.others.items()} == {"b": "hung", "d": "missing"}
