"""A process that stays beside this one, and the janitor: signals that come when it has only just begun."""

import os
import signal

import pytest

from usertcp.link import forked, janitor, undo
from usertcp.link.undo import SIGNALS, Made, unwinding


def status_of(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_before_it_is_apart_does_not_end_it(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Until then its handlers are ours, which raise: Ctrl-C in a terminal would end the janitor before its work."""
    be_apart = forked._be_apart

    def late(channel: int) -> None:
        os.kill(os.getpid(), number)
        be_apart(channel)

    monkeypatch.setattr(forked, "_be_apart", late)
    channel = os.open(os.devnull, os.O_RDONLY)
    with unwinding():
        assert status_of(forked.forked(lambda: None, channel)) == 0
    os.close(channel)
    assert capfd.readouterr().err == ""


def test_it_hears_what_its_parent_did_not_block_and_nothing_stays_blocked() -> None:
    def look() -> None:
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR1}

    channel = os.open(os.devnull, os.O_RDONLY)
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        process = forked.forked(look, channel)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == former | {signal.SIGUSR1}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
    os.close(channel)
    assert status_of(process) == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_while_a_janitor_is_made_finds_it_in_charge(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise both would undo what was made, and nobody would wait for the janitor."""
    janitors: list[int] = []

    def interrupted(work: object, channel: int) -> int:
        janitors.append(forked.forked(work, channel))  # type: ignore[arg-type]
        os.kill(os.getpid(), number)
        return janitors[0]

    here: list[str] = []
    monkeypatch.setattr(janitor, "forked", interrupted)
    monkeypatch.setattr(undo, "_made", [])  # what other tests use is not this one's to entrust

    def undone() -> None:
        here.append("undone")

    def begin() -> None:
        with unwinding():
            Made("a thing", None, undone)
            janitor.entrust()

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        begin()
    assert here == []
    assert undo._made == []
    with pytest.raises(ChildProcessError):  # it was waited for
        os.waitpid(janitors[0], 0)
