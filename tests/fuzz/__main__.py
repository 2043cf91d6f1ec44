"""``make fuzz``: atheris over every target for a time, and what came of it.

    python -m tests.fuzz [--seconds N] [--target NAME ...]   fuzz; the exit status is 1 if there is a finding
    python -m tests.fuzz --replay FILE ...                   play inputs again, with the traceback of what they find
    python -m tests.fuzz --reduce FILE                       make a crashing input small
    python -m tests.fuzz --keep N                            put the N best of the inputs found into tests/fuzz/corpus

What is found on the way is kept in build/fuzz/TARGET: ``corpus`` (the next run goes on from there and from
tests/fuzz/corpus), ``crash-*`` and what else libFuzzer leaves, ``log``. The last line of a target tells the executions,
the coverage as libFuzzer counts it (edges of the instrumented package, and features), the lines of each layer that the
corpus reaches, and the findings.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.words import count
from tests.fuzz import cover
from tests.fuzz.reduce import reduce
from tests.fuzz.targets import ROOT, TARGETS, Target, target_of

BUILD: Final = ROOT / "build" / "fuzz"
WORDS: Final = Path(__file__).parent / "words.dict"
SUPPORTED: Final = ((3, 11), (3, 12), (3, 13))  # for which atheris is there
UNIT: Final = 300  # seconds that one input may take before it is a finding; what counts work is slow
MEMORY: Final = 2048  # megabytes that the process may take
COVERING: Final = 30.0  # seconds for the table of lines
FINDINGS: Final = ("crash-*", "timeout-*", "oom-*", "leak-*")
_STATUS: Final = re.compile(r"#(\d+)\s+\w+\s+cov: (\d+) ft: (\d+) corp: (\d+)/")


@dataclass
class Outcome:
    """What came of fuzzing one target."""

    target: Target
    seconds: float
    executions: int = 0
    edges: int = 0
    features: int = 0
    corpus: int = 0
    findings: list[Path] = field(default_factory=list)
    failed: str = ""


def fuzz(target: Target, seconds: int) -> Outcome:
    """Fuzz ``target`` in a process of its own."""
    place = BUILD / target.name
    corpus = place / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    known = set(_findings(place))
    words = [f"-max_total_time={seconds}", f"-max_len={target.longest}", f"-timeout={UNIT}", f"-rss_limit_mb={MEMORY}"]
    words += ["-len_control=0", "-reload=0", "-print_final_stats=1", f"-artifact_prefix={place}/"]
    if not target.records:
        words.append(f"-dict={WORDS}")
    folders = [str(corpus), *([str(target.corpus)] if target.corpus.is_dir() else [])]
    started = time.monotonic()
    outcome = Outcome(target, 0)
    command = [sys.executable, "-m", "tests.fuzz.child", target.name, *words, *folders]
    with (
        (place / "log").open("w") as log,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                log.write(line)
                log.flush()
                if match := _STATUS.match(line):
                    outcome.executions, outcome.edges, outcome.features, outcome.corpus = map(int, match.groups())
        finally:
            process.terminate()
    outcome.seconds = time.monotonic() - started
    outcome.findings = sorted(set(_findings(place)) - known)
    if process.returncode and not outcome.findings:
        outcome.failed = f"the fuzzer ended with {process.returncode}: see {place / 'log'}"
    return outcome


def _findings(place: Path) -> list[Path]:
    return [path for pattern in FINDINGS for path in place.glob(pattern)]


def inputs_of(target: Target) -> list[bytes]:
    """Every input of ``target`` that is kept, the smallest first."""
    folders = (target.corpus, BUILD / target.name / "corpus")
    files = [path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.is_file()]
    return sorted({path.read_bytes() for path in files}, key=lambda data: (len(data), data))


def tell(outcome: Outcome) -> None:
    """What came of it, in a few lines."""
    target = outcome.target
    rate = outcome.executions / max(outcome.seconds, 1)
    print(
        f"{target.name}: {outcome.executions:,} executions in {outcome.seconds:.0f} s, {rate:.0f}/s; "
        f"{outcome.edges:,} edges, {outcome.features:,} features; {outcome.corpus:,} inputs in the corpus"
    )
    inputs = inputs_of(target)
    seen, played = cover.measure(target.run, inputs, COVERING)
    shares = ", ".join(f"{layer} {100 * got // of} %" for layer, got, of in cover.table(seen))
    print(f"  lines reached by {played:,} of {len(inputs):,} inputs: {shares}")
    if outcome.failed:
        print(f"  {outcome.failed}")
    elif not outcome.findings:
        print("  no finding")
    for path in outcome.findings:
        print(f'  FINDING: {path}\n  replay: make fuzz ARGS="--replay {path}"')


def replay(paths: list[Path]) -> int:
    """Play inputs; 1 if one of them finds something."""
    worst = 0
    for path in paths:
        try:
            target_of(path).run(path.read_bytes())
            print(f"{path}: nothing")
        except Exception:
            traceback.print_exc()
            print(f"{path}: a finding")
            worst = 1
    return worst


def keep(target: Target, most: int) -> None:
    """Put the best of what was found beside the inputs that the repository has."""
    target.corpus.mkdir(parents=True, exist_ok=True)
    kept = {path.read_bytes() for path in target.corpus.iterdir()}
    chosen = cover.choose(target.run, inputs_of(target), most)
    fresh = [data for data in chosen if data not in kept]
    for data in fresh:
        (target.corpus / hashlib.sha1(data).hexdigest()[:16]).write_bytes(data)
    print(f"{target.name}: {len(fresh)} inputs more in {target.corpus}")


def _input(text: str) -> Path:
    """A file with an input, in a directory by which its target is known."""
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text} is no file")
    try:
        target_of(path)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=count, default=60, help="for each target (60)")
    parser.add_argument("--target", action="append", choices=TARGETS, help="of these alone; may be repeated")
    parser.add_argument("--replay", nargs="+", type=_input, metavar="FILE", help="play these inputs")
    parser.add_argument("--reduce", type=_input, metavar="FILE", help="make a crashing input small")
    parser.add_argument("--keep", type=count, metavar="N", help="keep the N best inputs of each target")
    return parser.parse_args()


def main() -> int:
    """The exit status."""
    words = arguments()
    targets = [TARGETS[name] for name in words.target or TARGETS]
    if words.replay:
        return replay(words.replay)
    if words.reduce:
        smaller = words.reduce.with_name(words.reduce.name + ".small")
        smaller.write_bytes(reduce(target_of(words.reduce), words.reduce.read_bytes()))
        print(f"{smaller}: {smaller.stat().st_size} bytes")
        return 0
    if words.keep:
        for target in targets:
            keep(target, words.keep)
        return 0
    if sys.version_info[:2] not in SUPPORTED:
        versions = ", ".join(f"{major}.{minor}" for major, minor in SUPPORTED)
        print(f"make fuzz: atheris knows Python {versions}, and this is {sys.version.split()[0]}.", file=sys.stderr)
        print("cure: name one of those: make fuzz PYTHON=/path/to/python3.13", file=sys.stderr)
        return 2
    worst = 0
    for target in targets:
        outcome = fuzz(target, words.seconds)
        tell(outcome)
        worst |= bool(outcome.findings or outcome.failed)
        sys.stdout.flush()
    return worst


if __name__ == "__main__":
    sys.exit(main())
