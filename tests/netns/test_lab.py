"""Every scenario, in every role, against the kernel's TCP; the demonstration; and what they leave behind: nothing."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from usertcp.lab import demo
from usertcp.lab.bench import Bench, Stopped
from usertcp.lab.ladder import Note, Rung
from usertcp.lab.registry import SCENARIOS
from usertcp.lab.result import Result
from usertcp.link import netns, pcap, provision
from usertcp.units import MS

HELD_UP: Final = 100 * MS  # what may be too much for a scenario, whose shortest timers are twice as long
TRIES: Final = 5
RUNS = [(name, role) for name, scenario in SCENARIOS.items() for role in scenario.roles]


def failures(result: Result) -> list[str]:
    """What did not hold, and what was seen instead."""
    assert result.checks
    return [f"{check.statement} (seen: {check.seen})" for check in result.checks if not check.holds]


def played(play: Callable[[], Result]) -> Result:
    """What came of it when the machine let it go on in time: once it must."""
    for _ in range(TRIES):
        result = play()
        if result.holds or result.held_up < HELD_UP:
            break
    return result


@pytest.mark.rfc(9293, "MUST-24")
@pytest.mark.rfc(9293, "MUST-29")
@pytest.mark.rfc(9293, "MUST-10")
@pytest.mark.rfc(9293, "MUST-13")
@pytest.mark.rfc(9293, "MUST-22")
@pytest.mark.rfc(9293, "MAY-1")
@pytest.mark.rfc(9293, "X-9")
@pytest.mark.rfc(9293, "X-10")
@pytest.mark.rfc(9293, "X-13")
@pytest.mark.rfc(9293, "X-16")
@pytest.mark.rfc(9293, "X-17")
@pytest.mark.parametrize(("name", "role"), RUNS, ids=[f"{name}-{role}" for name, role in RUNS])
def test_scenario_every_statement_holds(name: str, role: str) -> None:
    result = played(lambda: SCENARIOS[name].run(role))
    assert failures(result) == []
    rungs = result.ladder.rungs()
    assert rungs
    assert all(rung.ours and rung.kernels for rung in rungs), "a rung without a state"
    assert [space for space in netns.names() if space.startswith(f"usertcp-{os.getpid()}-")] == []


def test_all_rows_of_the_scenarios_are_there() -> None:
    wanted = """handshake stale-syn two-way lost-syn lost-synack lost-ack teardown half-close three-segment-close
    simultaneous-open simultaneous-close lost-last-ack time-wait half-open refused syn-flood
    time-wait-flood close-wait-leak"""
    assert sorted(SCENARIOS) == sorted(wanted.split())
    assert SCENARIOS["handshake"].roles == ("client", "server")
    assert SCENARIOS["teardown"].roles == ("active", "passive")


def test_handshake_recorded_the_file_holds_every_segment_of_the_ladder(tmp_path: Path) -> None:
    file = tmp_path / "handshake.pcap"
    result = SCENARIOS["handshake"].run("client", file)
    with open(file, "rb") as stream:
        frames = [frame for _, frame in pcap.Reader(stream)]
    segments = [frame for frame in frames if frame[12:14] == b"\x08\x00" and frame[23] == 6]
    assert len(segments) == len(result.ladder.rungs())


def test_demo_one_megabyte_every_statement_holds_and_every_line_is_shown_once() -> None:
    shown: list[Rung | Note] = []

    def play() -> Result:
        shown.clear()
        return demo.run(shown.append, size=1_000_000)

    result = played(play)
    assert failures(result) == []
    assert shown == result.ladder.lines


def test_bench_step_that_does_not_come_about_stops_and_fails() -> None:
    with Bench("nothing") as bench:
        with pytest.raises(Stopped):
            bench.reach("the impossible", lambda: False, 0.05)
        assert failures(bench.result) == ["the impossible (seen: )"]


def test_bench_left_by_an_exception_its_namespace_is_gone() -> None:
    bench = Bench("interrupted")
    with pytest.raises(KeyboardInterrupt), bench:
        raise KeyboardInterrupt
    assert bench.netns
    assert not provision.namespace_exists(bench.netns)
