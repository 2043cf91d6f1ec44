"""Runs a class of CPython's tests in a process of its own, and puts up with whatever that does.

A test that takes longer than its limit is *hung*, one whose process dies has *died*; the process group is killed, and
the tests after it go on in a new one. So a run ends, whatever hangs.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
LIMIT: Final = 60.0  # seconds for one test
DUMP: Final = 5.0  # seconds that a hung process gets to write where it hangs
START: Final = 60.0  # seconds until the first test starts: imports, on a busy machine


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a test: "passed", "failed", "skipped", "hung", "died" or "missing"; and what it said."""

    word: str
    text: str = ""


Outcomes = dict[str, Outcome]


class Child:
    """A process that runs tests. ``log`` gets what it prints."""

    def __init__(self, mode: str, module: str, tests: Sequence[str], folder: str, log: Path) -> None:
        self._read, write = os.pipe()
        command = [sys.executable, "-m", "tests.cpython.child", str(write), mode, module, *tests]
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[write],
                start_new_session=True,
            )
        os.close(write)
        self._rest = b""

    def lines(self, limit: float) -> Iterator[list[str] | None]:
        """What it tells, until ["done"]; None, and then no more, when it says nothing for ``limit`` s; an end before
        ["done"] means that it died."""
        patience = max(limit, START)
        while True:
            *lines, self._rest = self._rest.split(b"\n")
            for line in lines:
                patience = limit
                words = json.loads(line)
                yield words
                if words[0] == "done":
                    return
            if not select.select([self._read], [], [], patience)[0]:
                yield None
                return
            data = os.read(self._read, 1 << 16)
            if not data:
                return
            self._rest += data

    def break_off(self) -> None:
        """End it, and have it write to the log where each of its threads was."""
        self._process.send_signal(signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(DUMP)

    def close(self) -> None:
        """End it, and whatever it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._read)


def list_tests(module: str, log: Path) -> list[str]:
    """The names of all tests of a module; none if it cannot be imported."""
    with tempfile.TemporaryDirectory() as folder:
        child = Child("list", module, (), folder, log)
        try:
            return [words[1] for words in child.lines(START) if words is not None and words[0] == "test"]
        finally:
            child.close()


def run_class(mode: str, module: str, tests: Sequence[str], log: Path, limit: float = LIMIT) -> Outcomes:
    """Run ``tests``, all of one class. Every one of them has an outcome."""
    outcomes: Outcomes = {}
    left = list(tests)
    while left:
        before = len(left)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            child = Child(mode, module, left, folder, log)
            try:
                ended = _follow(child, outcomes, limit)
            finally:
                child.close()
        left = [test for test in left if test not in outcomes]
        if ended or len(left) == before:
            break
    return outcomes | {test: Outcome("missing", "it did not start") for test in left}


def _follow(child: Child, outcomes: Outcomes, limit: float) -> bool:
    """Note what ``child`` tells. False: it was broken off in the midst of a test, which has an outcome now."""
    running, since = "", 0.0
    for words in child.lines(limit):
        match words:
            case ["start", running]:
                since = time.monotonic()
            case ["end", name, word, text]:
                outcomes[name] = Outcome(word, text)
                running = ""
            case ["done"]:
                return True
            case None if running:
                child.break_off()
                outcomes[running] = Outcome("hung", f"nothing happened for {time.monotonic() - since:.0f} s")
                return False
    if running:
        outcomes[running] = Outcome("died", "the process ended")
    return not running
