"""Our packetdrill scripts: each holds on usertcp, in virtual time, and on the kernel, in real time.

The kernel's runs are many at a time, since they mostly wait. A machine that stalls for longer than SLACK fails a run,
and not a script: so a script fails when it has failed ATTEMPTS times, all but the first alone.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from usertcp.pkt.kernel import Kernel
from usertcp.pkt.parser import parse
from usertcp.pkt.report import render
from usertcp.pkt.runner import Outcome, Runner
from usertcp.pkt.virtual import Virtual
from usertcp.units import MS

ROOT = Path(__file__).parents[2]
SCRIPTS = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.pkt"))}
SLACK = 100 * MS
ATTEMPTS = 5
TOGETHER = 8
PATIENCE = 240  # s
ALONE = threading.Lock()


def on_usertcp(path: Path) -> Outcome:
    script = parse(path.read_text(), path.name)
    with closing(Virtual(script.settings)) as target:
        return Runner(script, target).run()


def on_the_kernel(path: Path) -> Outcome:
    script = parse(path.read_text(), path.name)
    for attempt in range(ATTEMPTS):
        with ALONE if attempt else nullcontext(), closing(Kernel(script.settings, SLACK)) as target:
            outcome = Runner(script, target).run()
        if outcome.failure is None:
            break
    return outcome


@pytest.fixture(scope="module")
def kernel_runs(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Outcome]]]:
    """What came of the scripts that this session asks for, by name."""
    asked = [
        str(item.callspec.params["name"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "kernel_runs" in item.fixturenames and item.path == request.path
    ]
    with ThreadPoolExecutor(TOGETHER) as pool:
        yield {name: pool.submit(on_the_kernel, SCRIPTS[name]) for name in asked}


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_holds_on_usertcp(name: str) -> None:
    outcome = on_usertcp(SCRIPTS[name])
    assert outcome.failure is None, render(outcome)


@pytest.mark.netns
@pytest.mark.parametrize("name", SCRIPTS)
def test_script_holds_on_the_kernel(name: str, kernel_runs: dict[str, Future[Outcome]]) -> None:
    outcome = kernel_runs[name].result(PATIENCE)
    assert outcome.failure is None, render(outcome)


def test_where_the_two_differ_is_told_in_the_document() -> None:
    told = (ROOT / "docs" / "packetdrill.md").read_text()
    differing = [name for name, path in SCRIPTS.items() if any(event.only for event in parse(path.read_text()).events)]
    assert [name for name in differing if f"`{name}`" not in told] == []


def test_there_are_enough_scripts_and_none_is_a_copy() -> None:
    texts = [path.read_text() for path in SCRIPTS.values()]
    assert len(SCRIPTS) >= 30
    assert len(set(texts)) == len(texts)
