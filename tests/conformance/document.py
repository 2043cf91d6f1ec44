"""docs/conformance.md, made of the ledger and of the tests' marks."""

from itertools import groupby
from pathlib import Path
from typing import Final

from tests.conformance.ledger import (
    IDS_9293,
    MET,
    NOT_APPLICABLE,
    ROOT,
    Requirement,
    Test,
    read_ledger,
    read_marks,
    share,
)

DOCUMENT: Final = ROOT / "docs" / "conformance.md"
TITLES: Final = {
    9293: "Transmission Control Protocol",
    5681: "congestion control",
    6298: "the retransmission timer",
    6528: "initial sequence numbers",
    6582: "NewReno",
    6675: "loss recovery with SACK",
    2018: "selective acknowledgments",
    2883: "duplicate SACK",
    7323: "window scale, timestamps, PAWS",
    5961: "blind in-window attacks",
    4987: "floods of SYNs",
    1337: "TIME-WAIT hazards",
    6191: "TIME-WAIT and timestamps",
    8985: "RACK and tail loss probes",
    9438: "CUBIC",
    5482: "the user timeout",
    6093: "urgent data",
    3042: "limited transmit",
    5682: "F-RTO",
    5927: "ICMP attacks",
    6056: "ephemeral ports",
    1122: "hosts (of what RFC 9293 does not repeat)",
}
HEAD: Final = """# Conformance

What the standards ask, where it is done, and the tests that show it. Made by `make conformance` from
[the ledger](../tests/conformance/ledger.toml) and from the marks of the tests (`@pytest.mark.rfc(9293, "MUST-3")`), and
not to be edited. The tests under *in virtual time* run twice, once with initial sequence numbers far from 2^32 and once
with such just before it (where there is a connection in it), by the short ways of `tcp.express` and `tcp.predicted`
wherever they are open; `make test` runs them by the general ones. There is no third run, over IPv6: the stack has none,
and what is said here is said of IPv4. The tests under *with a real peer* have the kernel's TCP, scapy or a real device
at the other end (root), and run in `make test`. A dash there means that none is needed: two ends in virtual time, or a
script, show all there is.

The ids MUST-n, SHLD-n, MAY-n and REC-n are those of RFC 9293's appendix B. X-n are rules of its text that have none
there; the numbers are ours. A verdict other than *met* is a decision, and the reason stands beside it; so it does where
*met* is not the whole truth.
"""


def render() -> str:
    """The whole document."""
    parts = [HEAD, _summary()]
    for rfc, requirements in groupby(read_ledger(), key=lambda requirement: requirement.rfc):
        parts.append(_table(rfc, list(requirements)))
    return "\n".join(parts)


def _summary() -> str:
    rows = ["| | met | of those that apply |", "|---|---|---|"]
    for level, text in (
        ("MUST", "MUST"),
        ("SHLD", "SHOULD"),
        ("MAY", "MAY (offered)"),
        ("REC", "recommended"),
        ("X", "rules without an id"),
    ):
        met, applicable = share(level)
        rows.append(f"| RFC 9293, {text} | {met} | {applicable} |")
    others = [requirement for requirement in read_ledger() if requirement.rfc != 9293]
    applicable = sum(r.verdict != NOT_APPLICABLE for r in others)
    rows.append(f"| sections of other RFCs | {sum(r.verdict == MET for r in others)} | {applicable} |")
    return "\n".join(rows) + "\n"


def _table(rfc: int, requirements: list[Requirement]) -> str:
    marks = read_marks()
    if rfc == 9293:
        order = {id: at for at, id in enumerate(IDS_9293)}
        requirements = sorted(requirements, key=lambda requirement: order.get(requirement.id, len(order)))
    rows = [
        f"## RFC {rfc}: {TITLES[rfc]}\n",
        "| id | what it asks | where | in virtual time | with a real peer | verdict |",
        "|---|---|---|---|---|---|",
    ]
    for each in requirements:
        id = each.id if each.id.startswith("§") else f"{each.id} §{each.section}"
        where = ", ".join(f"`{path}:{name}`" for path, name in each.where)
        verdict = f"{each.verdict}: {each.decision}" if each.decision else each.verdict
        tests = marks.get((rfc, each.id), [])
        virtual, real = (_list([test for test in tests if test.virtual is kind]) for kind in (True, False))
        rows.append(f"| {id} | {each.asks} | {where} | {virtual} | {real or '–'} | {verdict} |")
    return "\n".join(rows) + "\n"


def _list(tests: list[Test]) -> str:
    """By file: `scenario/test_open.py`: name, name."""
    parts = []
    for path, group in groupby(tests, key=lambda test: test.path):
        names = ", ".join(test.name.removeprefix("test_") for test in group)
        parts.append(f"`{Path(path).relative_to('tests')}`: {names}")
    return "; ".join(parts)
