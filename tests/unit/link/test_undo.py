"""What was made is undone: once, newest first, whatever happens in between. Nothing here touches the kernel."""

import os
import signal
import threading
from collections.abc import Callable

import pytest

from usertcp.errors import SetupError
from usertcp.link import marks, settings, undo
from usertcp.link.causes import failure
from usertcp.link.undo import Made, apart, forget_inside, undo_all, unwinding


def recorder(log: list[str]) -> Callable[..., Made]:
    def make(name: str, netns: str | None = None) -> Made:
        return Made(name, netns, lambda: log.append(name))

    return make


def within(work: Callable[[], None]) -> None:
    with unwinding():
        work()


def test_made_removed_twice_is_undone_once() -> None:
    log: list[str] = []
    with recorder(log)("a") as made:
        assert made.exists
        made.remove()
    assert log == ["a"]
    assert not made.exists


def test_unwinding_undoes_what_is_left_newest_first() -> None:
    log: list[str] = []
    make = recorder(log)
    outer = make("outer")

    def work() -> None:
        make("a")
        make("b").remove()
        make("c")
        make("kept").keep()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        within(work)
    assert log == ["b", "c", "a"]
    assert outer.exists
    outer.remove()


def test_failing_undo_does_not_keep_the_others_from_being_undone() -> None:
    log: list[str] = []
    make = recorder(log)

    def fail() -> None:
        raise SetupError("cause", "cure")

    def work() -> None:
        make("a")
        Made("b", None, fail)
        make("c")

    with pytest.raises(SetupError):
        within(work)
    assert log == ["c", "a"]


def test_removed_namespace_takes_along_what_was_in_it() -> None:
    log: list[str] = []
    make = recorder(log)
    with unwinding():
        make("in it", "space")
        make("elsewhere", "other")
        forget_inside("space")
    assert log == ["elsewhere"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_while_unwinding_ends_in_order_with_its_status(number: signal.Signals) -> None:
    log: list[str] = []
    former = signal.getsignal(number)

    def work() -> None:
        recorder(log)("a")
        os.kill(os.getpid(), number)

    with pytest.raises(SystemExit) as ended:
        within(work)
    assert ended.value.code == 128 + number
    assert log == ["a"]
    assert signal.getsignal(number) is former


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_that_falls_into_a_destructor_is_sent_again(number: signal.Signals) -> None:
    class Unlucky:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    def work() -> None:
        Unlucky()
        assert not threading.Event().wait(10)

    with pytest.raises((SystemExit, KeyboardInterrupt)) as ended:
        within(work)
    assert number == signal.SIGINT or ended.value.args == (128 + number,)


def test_signal_that_falls_into_a_destructor_waits_until_python_is_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(threading.Timer):
        def start(self) -> None:
            super().start()
            assert not threading.Event().wait(5 * undo.AGAIN)

    monkeypatch.setattr(threading, "Timer", Slow)
    test_signal_that_falls_into_a_destructor_is_sent_again(signal.SIGTERM)


def test_signal_dropped_at_the_very_end_ends_the_program_all_the_same() -> None:
    class Unlucky:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    def work() -> None:
        Unlucky()

    with pytest.raises(SystemExit) as ended:
        within(work)
    assert ended.value.code == 128 + signal.SIGTERM


def test_second_signal_waits_until_all_is_undone() -> None:
    log: list[str] = []
    make = recorder(log)

    def work() -> None:
        make("a")
        Made("b", None, lambda: os.kill(os.getpid(), signal.SIGTERM))

    with pytest.raises(SystemExit) as ended:
        within(work)
    assert ended.value.code == 128 + signal.SIGTERM
    assert log == ["a"]


def test_interrupt_during_a_step_is_raised_when_the_step_has_ended() -> None:
    steps: list[str] = []
    go = threading.Event()

    def step() -> None:
        steps.append("begun")
        os.kill(os.getpid(), signal.SIGINT)
        go.wait(0.2)
        steps.append("ended")

    with pytest.raises(KeyboardInterrupt):
        apart(step)
    assert steps == ["begun", "ended"]


def test_apart_gives_back_the_result_and_the_exception() -> None:
    assert apart(lambda: 7) == 7
    assert apart(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        apart(lambda: 1 // 0)


def test_forked_child_does_not_undo_what_its_parent_made() -> None:
    log: list[str] = []
    made = recorder(log)("a")
    child = os.fork()
    if child == 0:
        undo_all()
        os._exit(len(log))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert made.exists
    made.remove()


def test_mark_of_a_living_process_is_no_orphan() -> None:
    assert not marks.is_orphan(marks.mark())
    assert not marks.is_orphan(marks.mark() + "-3")
    assert not marks.is_orphan("usertcp up")
    assert not marks.is_orphan("eth0")
    assert marks.is_living(marks.mark())
    assert marks.is_living("usertcp up")
    assert not marks.is_living("eth0")


def test_mark_of_a_dead_process_or_of_a_reused_number_is_an_orphan() -> None:
    assert marks.is_orphan("usertcp-4194305-17-1")  # above the largest process number
    assert not marks.is_living("usertcp-4194305-17-1")
    assert marks.is_orphan(f"usertcp-{os.getpid()}-1-1")  # this number, but another start


@pytest.mark.parametrize("text", ["", "1", "80,8000-8002", "1-65535"])
def test_port_list_is_read_and_written_back(text: str) -> None:
    assert settings.port_text(settings.port_set(text)) == text


def test_ports_that_touch_are_written_as_one_range() -> None:
    assert settings.port_text({3, 1, 2, 7}) == "1-3,7"


@pytest.mark.parametrize("number", [1, 13, 17, 19, 25, 95, 101, None])
def test_every_errno_has_a_cause_and_a_cure(number: int | None) -> None:
    error = failure("doing it", number)
    assert error.cause.startswith("doing it: ")
    assert error.cure
