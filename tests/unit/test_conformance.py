"""The ledger of what the standards ask is whole, names what exists, and docs/conformance.md is made of it.

Whether the tests that it names pass is found by running them: ``make conformance``.
"""

from pathlib import Path

import pytest

from tests.conformance import ledger
from tests.conformance.document import DOCUMENT, render
from tests.conformance.ledger import IDS_9293, exists, problems, read_ledger, share


def test_ledger_and_marks_agree_and_leave_nothing_out() -> None:
    assert "\n".join(problems()) == ""


def test_document_is_current() -> None:
    assert DOCUMENT.read_text() == render(), "docs/conformance.md is not current: make docs"


def test_every_must_that_applies_is_met_and_19_of_20_shoulds() -> None:
    met, applicable = share("MUST")
    assert met == applicable
    met, applicable = share("SHLD")
    assert met * 20 >= applicable * 19


def test_appendix_b_is_complete() -> None:
    counts = {kind: sum(id.startswith(kind + "-") for id in IDS_9293) for kind in ("MUST", "SHLD", "MAY", "REC", "X")}
    assert counts == {"MUST": 69, "SHLD": 31, "MAY": 18, "REC": 1, "X": 18}
    assert len({(each.rfc, each.id) for each in read_ledger()}) == len(read_ledger())


@pytest.mark.parametrize(
    ("path", "name", "there"),
    [
        ("tcp/arrives.py", "_in_syn_sent", True),
        ("tcp/sender.py", "Sender.update_window", True),
        ("tcp/config.py", "TcpConfig.msl", True),
        ("tcp/sender.py", "update_window", False),
        ("tcp/sender.py", "Sender.update_windows", False),
        ("tcp/nothing.py", "Sender", False),
    ],
)
def test_function_named_in_the_ledger_is_looked_for(path: str, name: str, there: bool) -> None:
    assert exists(path, name) is there


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "RFC 9293 X-18 is not in the ledger"),
        (
            '[9293.X-18]\nsection = "3.8"\nasks = "it"\nwhere = ["tcp/sender.py:Nobody"]',
            "usertcp/tcp/sender.py has no Nobody",
        ),
        ('[9293.X-18]\nsection = "3.8"\nasks = "it"', "does not say where"),
        ('[9293.X-18]\nsection = "3.8"\nasks = "it"\nverdict = "differs"', "nothing says why"),
        (
            '[9293.X-19]\nsection = "3.8"\nasks = "it"\npeer = true\nwhere = ["tcp/sender.py:Sender"]',
            "no test with a real peer",
        ),
        ('[9293.X-18]\nsection = "3.8"\nasks = "it"\nverdict = "not offered"', "nothing says why"),
        ('[9293.X-19]\nsection = "3.8"\nasks = "it"\nwhere = ["tcp/sender.py:Sender"]', "no test in virtual time"),
    ],
)
def test_ledger_with_a_gap_is_told_of_it(
    line: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ledger.LEDGER.read_text()
    start = text.index("[9293.X-18]")
    end = text.index("\n[", start)
    path = tmp_path / "ledger.toml"
    path.write_text(text[:start] + line + "\n" + text[end:])
    monkeypatch.setattr(ledger, "LEDGER", path)
    read_ledger.cache_clear()
    try:
        assert problem in "\n".join(problems())
    finally:
        read_ledger.cache_clear()
