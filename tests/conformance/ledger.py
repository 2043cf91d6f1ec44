"""What the standards ask (``ledger.toml``), held against the code that does it and the tests that show it.

``ledger.toml`` has a table for each requirement: ``[rfc.id]`` with ``section``, ``asks`` (in our own words), ``where``
(``file:function`` in the package), ``peer`` where only another TCP or host can show it and, where we do otherwise on
purpose, ``verdict`` and ``decision``. Which tests show
a requirement is said by the tests alone, by their marks ``@pytest.mark.rfc(rfc, id)``; those are read from the source.
Nothing here runs a test.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TESTS: Final = ROOT / "tests"
PACKAGE: Final = ROOT / "usertcp"
LEDGER: Final = Path(__file__).with_name("ledger.toml")
NUMBERLESS: Final = (
    "tests/unit/tcp/cc/",
    "tests/unit/wire/",
    "tests/fuzz/",
    "tests/interop/",
    "tests/unit/test_docs.py",
)
NEEDS_WIRE: Final = ("tests/netns/", "tests/interop/test_scapy_peer.py")  # real peers or devices: not in virtual time

MET: Final = "met"
DIFFERS: Final = "differs"  # done otherwise, on purpose
DECLINED: Final = "not offered"  # of what is optional
NOT_APPLICABLE: Final = "does not apply"  # its condition is not given
VERDICTS: Final = (MET, DIFFERS, DECLINED, NOT_APPLICABLE)

# What RFC 9293 has: its appendix B, and by our count the rules of its text that stand there without an id.
IDS_9293: Final = [
    f"{kind}-{number}"
    for kind, count in (("MUST", 69), ("SHLD", 31), ("MAY", 18), ("REC", 1), ("X", 18))
    for number in range(1, count + 1)
]
LEAST_SHOULDS: Final = 95  # percent of those that apply


@dataclass(frozen=True, slots=True)
class Requirement:
    """One line of the ledger. ``where``: (file below the package, dotted name in it)."""

    rfc: int
    id: str
    section: str
    asks: str
    where: tuple[tuple[str, str], ...]
    verdict: str
    decision: str
    peer: bool

    @property
    def name(self) -> str:
        return f"RFC {self.rfc} {self.id}"


@dataclass(frozen=True, slots=True, order=True)
class Test:
    """A test function, or a class that is one test."""

    path: str  # "tests/scenario/test_open.py"
    name: str

    @property
    def virtual(self) -> bool:
        """Whether it runs in virtual time, with nothing but the interpreter."""
        return not self.path.startswith(NEEDS_WIRE)

    @property
    def numbered(self) -> bool:
        """Whether sequence numbers may make a difference: there is a connection in it. If not, one run will do."""
        return not self.path.startswith(NUMBERLESS)


@cache
def read_ledger() -> tuple[Requirement, ...]:
    """Every requirement, in the ledger's order. KeyError, ValueError: a line is not as it should be."""
    found = []
    for rfc, rows in tomllib.loads(LEDGER.read_text()).items():
        for requirement, row in rows.items():
            where = tuple(tuple(place.split(":", 1)) for place in row.get("where", ()))
            verdict, decision, peer = row.get("verdict", MET), row.get("decision", ""), row.get("peer", False)
            if verdict not in VERDICTS or any(len(place) != 2 for place in where):
                raise ValueError(f"RFC {rfc} {requirement}: {row}")
            found.append(
                Requirement(int(rfc), requirement, row["section"], row["asks"], where, verdict, decision, peer)
            )
    return tuple(found)


@cache
def read_marks() -> dict[tuple[int, str], list[Test]]:
    """The tests by what they are marked with, sorted; RFCs only, no drafts."""
    found: dict[tuple[int, str], list[Test]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for name, mark in _marks(path):
            found.setdefault(mark, []).append(Test(str(path.relative_to(ROOT)), name))
    return {mark: sorted(tests) for mark, tests in found.items()}


def _marks(path: Path) -> Iterator[tuple[str, tuple[int, str]]]:
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.rfc":
                rfc, requirement = (ast.literal_eval(argument) for argument in decorator.args)
                if isinstance(rfc, int):
                    yield node.name, (rfc, requirement)


def exists(path: str, name: str) -> bool:
    """Whether the package's file ``path`` has the function, method, class or setting (a field of a class) ``name``."""
    body = _body(PACKAGE / path)
    for part in name.split("."):
        found = [node for node in body if part in _names(node)]
        if not found:
            return False
        node = found[0]
        body = node.body if isinstance(node, ast.ClassDef) else []
    return True


@cache
def _body(file: Path) -> list[ast.stmt]:
    return ast.parse(file.read_text(), str(file)).body if file.is_file() else []


def _names(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def problems() -> list[str]:
    """What is wrong with ledger and marks, a line each; nothing if all is well."""
    ledger, marks = read_ledger(), read_marks()
    known = {(requirement.rfc, requirement.id) for requirement in ledger}
    claimed = {requirement.rfc for requirement in ledger}
    wrong = [f"RFC 9293 {id} is not in the ledger" for id in IDS_9293 if (9293, id) not in known]
    for (rfc, id), tests in marks.items():
        if rfc in claimed and (rfc, id) not in known:
            wrong += [
                f"{test.path}: {test.name} is marked with RFC {rfc} {id}, which the ledger does not know"
                for test in tests
            ]
    for requirement in ledger:
        wrong += [f"{requirement.name}: {problem}" for problem in _problems_of(requirement, marks)]
    for level in ("MUST", "SHLD"):
        met, applicable = share(level)
        least = 100 if level == "MUST" else LEAST_SHOULDS
        if met * 100 < least * applicable:
            wrong.append(f"{met} of {applicable} {level} are met; {least} % should be")
    return wrong


def _problems_of(requirement: Requirement, marks: dict[tuple[int, str], list[Test]]) -> Iterator[str]:
    tests = marks.get((requirement.rfc, requirement.id), [])
    if requirement.verdict == MET:
        if not any(test.virtual for test in tests):
            yield "no test in virtual time shows it"
        if not requirement.where:
            yield "it does not say where it is implemented"
        if requirement.peer and all(test.virtual for test in tests):
            yield "no test with a real peer shows it"
    elif not requirement.decision:
        yield "it is not met, and nothing says why"
    for path, name in requirement.where:
        if not exists(path, name):
            yield f"usertcp/{path} has no {name}"
    if not re.fullmatch(r"[\dA-Z][\d.]*", requirement.section):
        yield f"{requirement.section!r} is no section"


def share(level: str) -> tuple[int, int]:
    """Of the requirements of RFC 9293 of a ``level`` ("MUST"): how many are met, and how many apply."""
    verdicts = [r.verdict for r in read_ledger() if r.rfc == 9293 and r.id.startswith(level + "-")]
    return verdicts.count(MET), len(verdicts) - verdicts.count(NOT_APPLICABLE)
