"""``make soak`` in short: all of it, and nothing is left behind."""

import sys

from rich.console import Console

from benchmarks.soak import Soak, tell
from benchmarks.soak_plan import Plan
from tests.netns.programs import Program
from usertcp.link import netns

SHORT = Plan(
    seconds=4,
    together=24,
    rate=1e6,
    largest=200_000,
    between=1.0,
    outage=(0.1, 0.3),
    silence=1.5,
    keepalive=1,
    msl=0.1,
    every=0.5,
    patience=60,
)


def test_short_soak_ends_every_connection_as_it_should_and_holds_nothing() -> None:
    console = Console(record=True, width=200)
    with Soak(SHORT, console) as soak:
        soak.run()
    found = soak.verdict()
    tell(soak, found, console)
    counts = soak.ledger.counts
    assert found == [], console.export_text()
    assert counts["opened"] >= SHORT.together
    assert counts["both ends seen"] > 0
    assert counts["streams hashed whole"] > 0
    assert counts["sides of resets"] > 0
    assert soak.ledger.outages
    assert soak.lost_out + sum(final.get("lost", 0) for final in soak.finals.values()) > 0
    assert not netns.exists(soak.space)


def test_interrupted_soak_leaves_nothing() -> None:
    with Program(None, [sys.executable, "-m", "benchmarks.soak", "--together", "12"]) as program:

        def spaces() -> list[str]:
            return [name for name in netns.names() if name.startswith(f"usertcp-{program.process.pid}-")]

        while not spaces():
            assert program.process.poll() is None
        program.interrupt()
        program.finish(code=None)
    assert program.process.returncode != 0
    assert spaces() == []
