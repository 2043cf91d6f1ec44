"""A worker whose engine has died ends without a word, whenever that was."""

import select
import socket
import threading

import pytest

from usertcp.cli import worker


def test_engine_that_died_before_the_worker_was_ready(capfd: pytest.CaptureFixture[str]) -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs, pytest.raises(SystemExit, match="1"):
        worker._meet(theirs)
    assert capfd.readouterr() == ("", "")


def test_engine_that_died_with_the_workers_word_unread() -> None:
    ours, theirs = socket.socketpair()

    def die() -> None:
        select.select([ours], [], [])
        ours.close()

    engine = threading.Thread(target=die)
    engine.start()
    with theirs, pytest.raises(SystemExit, match="1"):
        worker._meet(theirs)
    engine.join()
