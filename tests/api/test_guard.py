"""The guard of an engine, which is not tried without end if it cannot start; and the interpreters that are ours."""

import errno
import os
import select
import socket as kernel
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.api.hosts import LEFT, PATIENCE, stack_on
from usertcp.driver import guard, interpreter, messages
from usertcp.driver.base import Pump
from usertcp.driver.broker import SocketEngine
from usertcp.link.forked import forked
from usertcp.link.memory import memory_pair
from usertcp.units import MS


def test_interpreter_finds_the_package_and_nothing_in_the_current_directory(tmp_path: Path) -> None:
    for name in ("json", "usertcp"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is anybody's')\n")
    command = interpreter.command("import json, usertcp.driver.guard as found; print(found.__file__)")
    done = subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{guard.__file__}\n", "")


def test_guard_that_cannot_start_is_given_up_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    started = []

    def broken(work: Callable[[], object], channel: int) -> int:
        started.append(channel)
        if len(started) == 1:
            raise OSError(errno.EAGAIN, "no more processes")
        return forked(lambda: None, channel)

    monkeypatch.setattr(guard, "forked", broken)
    monkeypatch.setattr(guard, "RETRY", MS)
    link, other = memory_pair()
    ticks = iter(range(0, 1 << 62, MS))
    engine = SocketEngine(Pump(stack_on(link, LEFT), link, lambda: next(ticks)))
    made = guard.Guard(engine)
    try:
        while "did not start" not in (said := capfd.readouterr().err):
            engine.step(engine.timeout_ns())
        for _ in range(10):
            engine.step(MS)
    finally:
        engine.broker.close()
        made.close()
        engine.close()
        other.close()
    assert len(started) == guard.TRIES
    assert f"{guard.TRIES} tries" in said
    assert capfd.readouterr().err == ""


def test_guard_of_an_engine_that_was_killed_before_it_read_a_word_wakes_its_listeners(
    capfd: pytest.CaptureFixture[str],
) -> None:
    ours, theirs = kernel.socketpair(kernel.AF_UNIX, kernel.SOCK_SEQPACKET)
    token, ident = messages.new_ident(), messages.new_ident()
    with ours, kernel.socket(kernel.AF_UNIX) as listener:
        listener.bind(messages.own_name(ident))
        listener.listen()
        listener.settimeout(PATIENCE)
        with theirs:
            process = forked(lambda: guard.serve(token), theirs.fileno())
        select.select([ours], [], [], PATIENCE)
        ours.send(f"+{ident}".encode())
        ours.close()  # with READY unread
        listener.accept()[0].close()
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert capfd.readouterr().err == ""


def test_news_of_a_dead_engine_by_a_stranger_is_believed_when_the_engine_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    news, other = kernel.socketpair()
    monkeypatch.setattr(messages, "trusted", lambda sock: sock is not news)
    token = messages.new_ident()
    with news, other, kernel.socket(kernel.AF_UNIX, kernel.SOCK_SEQPACKET) as control:
        control.bind(messages.control_name(token))
        control.listen()

        def serve() -> None:
            alive, _ = control.accept()
            with alive:
                alive.recv(messages.MESSAGE)
                alive.send(messages.encode({}))
            dying, _ = control.accept()  # its name is there still, as long as it is being killed
            dying.close()

        server = threading.Thread(target=serve)
        server.start()
        assert not messages.bears_true_news(news, token)
        assert messages.bears_true_news(news, token)
        server.join()
    assert messages.bears_true_news(news, token)
