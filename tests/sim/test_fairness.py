"""Who gets how much of a bottleneck that several flows share."""

from functools import cache

import pytest

from tests.support.linux_cubic import LinuxCubic
from usertcp.lab.congestion import Bottleneck, Experiment, Flow, Outcome
from usertcp.tcp.cc import registry
from usertcp.units import MS, SEC

BOTTLENECK = Bottleneck(rate=5_000_000, rtt=60 * MS)  # 37 KB, and as much of queue
SHORT = Bottleneck(rate=5_000_000, rtt=30 * MS)  # on which windows swing faster, and figures scatter less


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name under which the model of Linux's cubic is registered."""
    monkeypatch.setitem(registry._ALGORITHMS, LinuxCubic.name, LinuxCubic)
    return LinuxCubic.name


@cache
def play(
    *names: str,
    seconds: int,
    apart: int = 0,
    settle: int = 5 * SEC,
    seed: int = 1,
    bottleneck: Bottleneck = BOTTLENECK,
) -> Outcome:
    """Flows that start ``apart`` ns from each other; the figures begin ``settle`` ns after the last one."""
    flows = [Flow(name, start=n * apart) for n, name in enumerate(names)]
    return Experiment(bottleneck, flows, settle=settle, seed=seed).run(seconds * SEC)


@pytest.mark.rfc(9438, "§5.6")
@pytest.mark.parametrize("apart", [0, 2 * SEC])
def test_two_cubic_flows_share_fairly(apart: int) -> None:
    outcome = play("cubic", "cubic", apart=apart, seconds=40)
    assert outcome.jain >= 0.98
    assert outcome.goodput > 0.94 * BOTTLENECK.rate


def test_cubic_beside_the_model_of_linux_gets_the_same_within_a_tenth(linux: str) -> None:
    ours = theirs = 0.0
    for seed, names in enumerate([("cubic", linux), (linux, "cubic")] * 2):
        for result in play(*names, seconds=30, seed=seed, bottleneck=SHORT).flows:
            if result.flow.congestion == linux:
                theirs += result.goodput
            else:
                ours += result.goodput
    assert ours == pytest.approx(theirs, rel=0.10)


def test_cubic_alone_gets_what_the_model_of_linux_gets_within_a_tenth(linux: str) -> None:
    assert play("cubic", seconds=15).goodput == pytest.approx(play(linux, seconds=15).goodput, rel=0.10)


def test_four_bbr_flows_share_fairly() -> None:
    outcome = play("bbr", "bbr", "bbr", "bbr", seconds=40, settle=10 * SEC)
    assert outcome.jain >= 0.95
    assert outcome.goodput > 0.9 * BOTTLENECK.rate


def test_four_bbr_flows_that_start_apart_come_to_share_fairly() -> None:
    outcome = play("bbr", "bbr", "bbr", "bbr", seconds=60, apart=500 * MS, settle=20 * SEC)
    assert outcome.jain >= 0.95


def test_bbr_alone_keeps_the_queue_shorter_than_cubic() -> None:
    bbr, cubic = play("bbr", seconds=15), play("cubic", seconds=15)
    assert bbr.delay_mean < cubic.delay_mean / 2
    assert bbr.goodput > 0.95 * cubic.goodput
