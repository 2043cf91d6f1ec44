"""What a run of the conformance tests adds to pytest (``-p tests.conformance.plugin``).

Of all tests those are taken that are marked with a requirement of the ledger and run in virtual time; ``--numbering``
says where their sequence numbers begin. To look into one by hand::

    pytest -p tests.conformance.plugin --numbering plain tests/scenario/test_close.py
"""

import json
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.ledger import NEEDS_WIRE, NUMBERLESS, ROOT, read_ledger
from tests.support import numbering

Outcomes = dict[str, str]  # the worst of a test function's parameters, by "file::function"

_RANK: Final = ("passed", "skipped", "failed")
_outcomes: Outcomes = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The run's two choices."""
    parser.addoption("--numbering", choices=sorted(numbering.NUMBERINGS), default=numbering.WRAP)
    parser.addoption("--outcomes", type=Path, help="write what became of each test to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is read."""
    numbering.choose(config.getoption("--numbering"), short=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what shows a requirement of the ledger, and needs no machine around it."""
    claimed = {requirement.rfc for requirement in read_ledger()}
    needless = NEEDS_WIRE + (NUMBERLESS if config.getoption("--numbering") == numbering.PLAIN else ())
    kept = [
        item
        for item in items
        if any(mark.args[0] in claimed for mark in item.iter_markers("rfc"))
        and not str(item.path.relative_to(ROOT)).startswith(needless)
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


@pytest.fixture(autouse=True)
def isn_about_to_wrap(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stacks, too, begin where the run says."""
    if request.config.getoption("--numbering") == numbering.WRAP:
        monkeypatch.setattr("usertcp.net.stack.initial_sequence", numbering.Wrapping())


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note the worst of setup, call and teardown, and of all parameters."""
    name = report.nodeid.split("[")[0]
    name = f"{name.split('::')[0]}::{name.split('::')[-1]}"
    _outcomes[name] = max(_outcomes.get(name, "passed"), report.outcome, key=_RANK.index)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand over what was noted."""
    path: Path | None = session.config.getoption("--outcomes")
    if path is not None:
        path.write_text(json.dumps(_outcomes))
