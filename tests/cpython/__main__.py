"""``python -m tests.cpython``: how many of CPython's network tests that pass on the kernel pass on usertcp.

The tests are those of the interpreter that runs this (``Lib/test``; on Debian in the package libpython3-testsuite).
Every class runs twice, on the kernel's sockets and on usertcp.socket; those that pass on the kernel count. What does
not pass on usertcp is printed with its cause, which ``exceptions.toml`` knows. The exit status is 0 if the share is at
least ``--least``. With ``--faulty`` the loopback loses 2 % of the packets, and delays and reorders others.
"""

import argparse
import importlib.util
import json
import sys
import tomllib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.cpython.plan import PARTS, Part
from tests.cpython.runner import LIMIT, ROOT, Outcome, Outcomes, list_tests, run_class

EXCEPTIONS: Final = Path(__file__).with_name("exceptions.toml")
VERSION: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
LEAST: Final = 99.0  # percent of what passes on the kernel
LEAST_FAULTY: Final = 97.0  # the same over a loopback that loses and reorders


@dataclass(frozen=True, slots=True)
class Class:
    """A class of tests."""

    module: str
    name: str
    tests: tuple[str, ...]

    @property
    def label(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True)
class Score:
    """Of some classes: how many tests pass on the kernel, how many of those on usertcp, and what became of the rest."""

    kernel: int = 0
    usertcp: int = 0
    others: Outcomes = field(default_factory=dict)

    def add(self, kernel: Outcomes, usertcp: Outcomes) -> None:
        """Count one class."""
        for name, outcome in kernel.items():
            if outcome.word != "passed":
                continue
            self.kernel += 1
            got = usertcp.get(name, Outcome("missing"))
            if got.word == "passed":
                self.usertcp += 1
            else:
                self.others[name] = got

    @property
    def share(self) -> float:
        """Percent."""
        return 100.0 * self.usertcp / self.kernel if self.kernel else 0.0


def classes_of(part: Part, log: Path) -> list[Class]:
    """The classes of a module that are run."""
    names: dict[str, list[str]] = {}
    prefix = f"test.{part.module}."
    for test in list_tests(part.module, log):
        name = test.removeprefix(prefix).partition(".")[0]
        if test.startswith(prefix) and part.wants(name):
            names.setdefault(name, []).append(test)
    return [Class(part.module, name, tuple(tests)) for name, tests in names.items()]


def on_kernel(one: Class, log: Path, limit: float, kept: Path | None) -> Outcomes:
    """What the kernel's sockets do; from the file ``kept`` if it knows."""
    place = kept / VERSION / f"{one.label}.json" if kept is not None else None
    if place is not None and place.exists():
        return {name: Outcome(*words) for name, words in json.loads(place.read_text()).items()}
    outcomes = run_class("kernel", one.module, one.tests, log, limit)
    if place is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps({name: [got.word, got.text] for name, got in outcomes.items()}, indent=1))
    return outcomes


def cause_of(test: str) -> str:
    """Why ``test`` is known not to pass; "" if it is not."""
    for entry in tomllib.loads(EXCEPTIONS.read_text())["exception"]:
        if test in entry["tests"] and VERSION in entry.get("versions", [VERSION]):
            return str(entry["cause"])
    return ""


def last_line(text: str) -> str:
    """The last line of a traceback: the exception."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


def report(scores: Iterable[tuple[str, Score]], total: Score, out: Callable[[str], object] = print) -> None:
    """The figures of each module, then what did not pass, then the sum."""
    for label, score in scores:
        out(f"{label:36} {score.usertcp:5} of {score.kernel:5}  {score.share:6.2f} %")
    for name, outcome in sorted(total.others.items()):
        out(f"\n{outcome.word}: {name.removeprefix('test.')}")
        out(f"    cause: {cause_of(name) or 'not known'}")
        if outcome.text and not cause_of(name):
            out(f"    {last_line(outcome.text)}")
    out(f"\nPython {VERSION}: {total.usertcp} of {total.kernel} tests that pass on the kernel: {total.share:.2f} %")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make cpython ARGS=", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("only", nargs="*", help="module, module.Class or module.Class.test; left out: all")
    parser.add_argument("--least", type=float, metavar="PERCENT", help="99; with --faulty 97")
    parser.add_argument("--faulty", action="store_true", help="lose, delay and reorder packets")
    parser.add_argument("--limit", type=float, default=LIMIT, metavar="SECONDS", help="for one test")
    parser.add_argument("--jobs", type=int, default=1, help="classes at once")
    parser.add_argument("--kept", type=Path, metavar="FOLDER", help="keep the kernel's outcomes there, and use them")
    parser.add_argument("--log", type=Path, default=ROOT / "build" / "cpython.log", help="what the tests print")
    parser.add_argument("--verbose", action="store_true", help="print each class, and whole tracebacks")
    return parser.parse_args()


def is_wanted(part: Part, names: list[str]) -> bool:
    """Whether there may be something of ``part`` among what the user named."""
    return not names or any(f"{name}.".startswith(f"{part.module}.") for name in names)


def chosen(one: Class, names: list[str]) -> Class:
    """``one`` with those of its tests that the user named."""
    tests = tuple(test for test in one.tests if any(f"{test}.".startswith(f"test.{name}.") for name in names))
    return Class(one.module, one.name, tests if names else one.tests)


def main() -> int:
    words = arguments()
    if importlib.util.find_spec("test.test_socket") is None:
        print("the tests of this Python are not installed; on Debian: apt-get install libpython3-testsuite")
        return 2
    words.log.parent.mkdir(parents=True, exist_ok=True)
    words.log.write_bytes(b"")

    mode = "faulty" if words.faulty else "usertcp"
    least = words.least if words.least is not None else LEAST_FAULTY if words.faulty else LEAST

    def both(one: Class) -> tuple[Class, Outcomes, Outcomes]:
        kernel = on_kernel(one, words.log, words.limit, words.kept)
        passed = [test for test in one.tests if kernel.get(test, Outcome("missing")).word == "passed"]
        return one, kernel, run_class(mode, one.module, passed, words.log, words.limit)

    def classes(part: Part) -> list[Class]:
        return [one for found in classes_of(part, words.log) if (one := chosen(found, words.only)).tests]

    parts = [part for part in PARTS if is_wanted(part, words.only)]
    total, scores = Score(), []
    with ThreadPoolExecutor(words.jobs) as pool:
        running = [[pool.submit(both, one) for one in found] for found in pool.map(classes, parts)]
        for part, futures in zip(parts, running, strict=True):
            score = Score()
            for one, kernel, usertcp in (future.result() for future in futures):
                mine = {name: outcome for name, outcome in kernel.items() if name in one.tests}
                alone = Score()
                for each in (alone, score, total):
                    each.add(mine, usertcp)
                if words.verbose:
                    print(f"{one.label}: {alone.usertcp} of {alone.kernel}", flush=True)
                    for name, outcome in alone.others.items():
                        print(f"--- {outcome.word} {name}\n{outcome.text}", flush=True)
            if score.kernel:
                scores.append((part.module, score))
    report(scores, total)
    return 0 if total.share >= least else 1


if __name__ == "__main__":
    sys.exit(main())
