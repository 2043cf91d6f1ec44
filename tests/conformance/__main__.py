"""``python -m tests.conformance``: every requirement of the ledger is shown by its tests, twice, or decided in writing.

The marked tests run with plain sequence numbers and with such that are about to wrap. If all is well each requirement
is printed with its verdict, and docs/conformance.md written; what is wrong is printed otherwise, and the exit status
is 1. ``--draw`` only writes the document, ``--check`` only compares it: neither runs a test.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.conformance.document import DOCUMENT, render
from tests.conformance.ledger import ROOT, Test, problems, read_ledger, read_marks, share
from tests.support.numbering import NUMBERINGS, WRAP


def run(numbering: str) -> dict[str, str]:
    """What became of each marked test with this numbering, by "file::function"."""
    with tempfile.TemporaryDirectory() as folder:
        outcomes = Path(folder) / "outcomes.json"
        command = [sys.executable, "-m", "pytest", "-p", "tests.conformance.plugin", "-p", "no:cacheprovider", "-q"]
        command += ["--no-header", "--numbering", numbering, "--outcomes", str(outcomes), *files(numbering)]
        done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
        print(f"conformance: with {numbering} sequence numbers\n{done.stdout}", flush=True)
        if done.returncode > 1 or not outcomes.exists():
            raise SystemExit(f"conformance: pytest ended with status {done.returncode}")
        found: dict[str, str] = json.loads(outcomes.read_text())
        return found


def virtual_tests(numbering: str = WRAP) -> set[Test]:
    """The tests that show something of the ledger in virtual time; with ``numbering`` those that it concerns."""
    marks = read_marks()
    found = {test for each in read_ledger() for test in marks.get((each.rfc, each.id), ()) if test.virtual}
    return {test for test in found if test.numbered or numbering == WRAP}


def files(numbering: str) -> list[str]:
    """What to collect."""
    return sorted({test.path for test in virtual_tests(numbering)})


def unproven(numbering: str, outcomes: dict[str, str]) -> list[str]:
    """The tests that were to run and did not pass."""
    wanted = {f"{test.path}::{test.name}" for test in virtual_tests(numbering)}
    return [
        f"{name} ({numbering}): {outcomes.get(name, 'did not run')}"
        for name in sorted(wanted)
        if outcomes.get(name) != "passed"
    ]


def tell() -> None:
    """A line for each requirement."""
    marks = read_marks()
    for each in read_ledger():
        tests = len(marks.get((each.rfc, each.id), ()))
        print(f"{each.name:22} {each.verdict:14} {tests:3} tests  {each.asks}")


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--draw", action="store_true", help="write docs/conformance.md and run nothing")
    choice.add_argument("--check", action="store_true", help="check ledger, marks and document and run nothing")
    options = parser.parse_args()
    wrong = problems()
    if options.check and not wrong and DOCUMENT.read_text() != render():
        wrong.append(f"{DOCUMENT.relative_to(ROOT)} is not what the ledger and the marks say: make docs")
    if not (wrong or options.draw or options.check):
        with ThreadPoolExecutor() as both:  # processes that each have a CPU to themselves
            for numbering, outcomes in zip(NUMBERINGS, both.map(run, NUMBERINGS), strict=True):
                wrong += unproven(numbering, outcomes)
    for line in wrong:
        print(f"conformance: {line}", file=sys.stderr)
    if wrong:
        return 1
    if not options.check:
        DOCUMENT.write_text(render())
    if not (options.draw or options.check):
        tell()
    for level in ("MUST", "SHLD", "MAY", "REC", "X"):
        met, applicable = share(level)
        print(f"conformance: {level}: {met} of {applicable} that apply are met")
    print(f"conformance: {len(read_ledger())} requirements, {len(virtual_tests())} tests; see docs/conformance.md")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
