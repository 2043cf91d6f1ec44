"""The engine, its thread, and the control socket: calls from other threads, an orderly end, a crash, bad clients."""

import errno
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import usertcp.socket as us
from tests.api.hosts import LEFT, PATIENCE, PORT, RIGHT, nothing_left, stack_on
from tests.support.faulty import FaultyLink
from usertcp.driver import control
from usertcp.driver.base import Pump
from usertcp.driver.control import ControlServer, Place
from usertcp.driver.engine import IN, Engine, EngineThread
from usertcp.errors import StackError
from usertcp.link.memory import memory_pair
from usertcp.tcp.state import State


class Clock:
    """Real time is of no interest here, only that it passes."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 1000
        return self.now


@contextmanager
def two_engines(*, pollable: bool = True) -> Iterator[tuple[EngineThread, EngineThread, FaultyLink]]:
    one, other = memory_pair(pollable=pollable)
    flaky = FaultyLink(one)
    threads = [
        EngineThread(Engine(Pump(stack_on(link, address), link, Clock())))
        for link, address in ((flaky, LEFT), (other, RIGHT))
    ]
    for thread in threads:
        thread.start()
    try:
        yield threads[0], threads[1], flaky
    finally:
        for thread in threads:
            thread.stop(0.001)
        one.close()
        other.close()


class Reached:
    """An event for a connection's state."""

    def __init__(self, conn: object, state: State) -> None:
        self.conn, self.state = conn, state
        self.event = threading.Event()

    def on_ready(self) -> None:
        if self.conn.state is self.state:  # type: ignore[attr-defined]
            self.event.set()


@pytest.mark.parametrize("pollable", [True, False])
def test_two_engine_threads_connect(pollable: bool) -> None:
    with nothing_left(), two_engines(pollable=pollable) as (left, right, _):
        right.call(right.engine.pump.stack.listen, ("0.0.0.0", PORT))

        def connect() -> Reached:
            pump = left.engine.pump
            conn = pump.stack.connect((RIGHT, PORT), pump.clock())
            reached = conn.user = Reached(conn, State.ESTABLISHED)
            return reached

        assert left.call(connect).event.wait(PATIENCE)


def test_call_gives_the_result_and_the_exception() -> None:
    with two_engines() as (left, _, _):
        assert left.call(lambda: threading.current_thread().name) == "usertcp-engine"
        with pytest.raises(ZeroDivisionError):
            left.call(lambda: 1 / 0)
        assert left.call(lambda: left.call(int, "7")) == 7


def test_call_after_stop_is_a_stack_error() -> None:
    with nothing_left(), two_engines() as (left, _, _):
        left.stop()
        with pytest.raises(StackError):
            left.call(int)


def test_call_that_takes_too_long_times_out() -> None:
    with two_engines() as (left, _, _):
        gate = threading.Event()
        left.post(gate.wait)
        with pytest.raises(TimeoutError):
            left.call(int, timeout=0.01)
        gate.set()
        assert left.call(int) == 0


def test_registered_descriptor_that_becomes_readable_is_called() -> None:
    with nothing_left(), two_engines() as (left, _, _):
        reader, writer = os.pipe()
        got: list[bytes] = []
        seen = threading.Event()

        def read(_: int) -> None:
            got.append(os.read(reader, 10))
            seen.set()

        left.call(left.engine.register, reader, IN, read)
        os.write(writer, b"x")
        assert seen.wait(PATIENCE)
        assert got == [b"x"]
        left.call(left.engine.unregister, reader)
        os.close(reader)
        os.close(writer)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_crash_of_the_engine_fails_the_connections() -> None:
    with two_engines() as (left, right, _):
        right.call(right.engine.pump.stack.listen, ("0.0.0.0", PORT))

        def connect() -> Reached:
            pump = left.engine.pump
            conn = pump.stack.connect((RIGHT, PORT), pump.clock())
            reached = conn.user = Reached(conn, State.CLOSED)
            return reached

        reached = left.call(connect)
        left.post(lambda: 1 // 0)
        assert reached.event.wait(PATIENCE)
        with pytest.raises(StackError):
            left.call(int)


def test_device_that_dies_stops_no_engine() -> None:
    with nothing_left(), two_engines() as (left, _, flaky):
        failed = threading.Event()
        left.engine.pump.on_failure = failed.set
        flaky.read_error = OSError(errno.ENETDOWN, "gone")
        left.engine.wake()
        assert failed.wait(PATIENCE)
        assert left.call(int) == 0


@contextmanager
def controlled(directory: Path) -> Iterator[tuple[EngineThread, ControlServer]]:
    with two_engines() as (left, _, _):
        stack = left.engine.pump.stack
        commands = {"snapshot": lambda: stack.snapshot(0), "big": lambda: ["x" * 1000] * 3000}
        server = left.call(ControlServer, left.engine, Place("one", directory), commands)
        left.call(stack.listen, ("0.0.0.0", PORT))
        try:
            yield left, server
        finally:
            left.call(server.close)


def test_control_socket_answers_with_the_snapshot(tmp_path: Path) -> None:
    with nothing_left(), controlled(tmp_path):
        assert control.stacks(tmp_path) == ["one"]
        (row,) = control.query("one", directory=tmp_path)
        assert (row["local"], row["state"]) == (["0.0.0.0", PORT], "LISTEN")
    assert not list(tmp_path.iterdir())


def test_control_socket_unknown_command_is_refused(tmp_path: Path) -> None:
    with controlled(tmp_path), pytest.raises(ValueError, match="unknown command"):
        control.query("one", "format-the-disk", directory=tmp_path)


def test_control_socket_long_answer_arrives_whole(tmp_path: Path) -> None:
    with controlled(tmp_path):
        assert control.query("one", "big", directory=tmp_path) == ["x" * 1000] * 3000


def test_control_socket_clients_that_hang_or_leave_disturb_nobody(tmp_path: Path) -> None:
    with nothing_left(), controlled(tmp_path) as (_, server):
        silent = [socket.socket(socket.AF_UNIX) for _ in range(4)]
        for sock in silent:
            sock.connect(str(server.path))
        silent[0].sendall(b"big\n")
        silent[1].sendall(b"big\n")
        silent[1].close()
        silent[2].sendall(b"x" * 10_000)
        assert len(control.query("one", directory=tmp_path)) == 1
        for sock in silent:
            sock.close()


def test_socket_of_a_dead_stack_is_removed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.ctl"))
    assert control.stacks(tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_name_of_a_living_stack_is_in_use_and_of_a_dead_one_is_free(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "one.ctl"))
    with controlled(tmp_path):
        with pytest.raises(OSError, match="in use"):
            Place("one", tmp_path)
        assert control.stacks(tmp_path) == ["one"]


def test_sockets_of_dead_stacks_go_when_a_stack_begins_to_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.ctl"))
    with controlled(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["one.ctl"]


def test_query_of_nobody_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        control.query("nobody", directory=tmp_path)


def test_socket_engines_have_threads_change_fast_until_the_last_has_ended() -> None:
    before = sys.getswitchinterval()
    ends = memory_pair()
    engines = [us.Engine(stack_on(end, address), end) for end, address in zip(ends, (LEFT, RIGHT), strict=True)]
    assert sys.getswitchinterval() < before
    engines[0].close()
    engines[0].close()
    assert sys.getswitchinterval() < before
    engines[1].close()
    assert sys.getswitchinterval() == before
