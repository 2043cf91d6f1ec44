"""What is left when an engine's process is killed: somebody who wakes the programs that wait for it.

The kernel tells a program that its engine is dead, on every connection, because the engine's end of it is closed. Of a
listener there is no such end: whoever waits in accept or select would wait for ever. So an engine that is a process of
its own has a guard, a small process that knows the names of its listeners and, when the engine is gone, puts
connections into their accept queues that say so (:func:`usertcp.driver.messages.wake`).

::

    engine                          guard
    "+ID", "-ID"   ------------>    remembers the listeners
    ends, however  -- end of file ->  wakes those that are left, and ends
"""

import _socket
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from usertcp.driver import messages

if TYPE_CHECKING:
    from usertcp.driver.broker import SocketEngine

PATIENCE: Final = 10.0  # seconds that a full accept queue is tried for
STEP: Final = 0.01  # seconds between two tries
WORD: Final = 64  # bytes that are more than any message has


class Guard:
    """The engine's side: a process that is told of listeners. One that has died, or does not listen, is replaced."""

    def __init__(self, engine: "SocketEngine") -> None:
        self._engine = engine
        self._broker = engine.broker
        self._start()
        self._broker.on_post = self._tell

    def _start(self) -> None:
        self._ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        command = f"from usertcp.driver.guard import serve; serve({self._broker.token!r})"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", command],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        finally:
            theirs.close()
        self._engine.register(self._ours.fileno(), select.EPOLLIN, lambda _: self._replace())
        for ident in self._broker.posts():
            self._tell(ident, True)

    def _tell(self, ident: str, there: bool) -> None:
        """The listener ``ident`` has come, or is gone."""
        try:
            self._ours.send(f"{'+' if there else '-'}{ident}".encode())
        except BlockingIOError:  # stopped
            self._replace()
        except OSError:  # dead, and the next one is told of all
            pass

    def _replace(self) -> None:
        self._end(kill=True)
        self._start()

    def close(self) -> None:
        """The engine ends: the guard does too, once it has woken those that nobody else has."""
        self._broker.on_post = lambda ident, there: None
        self._end(kill=False)

    def _end(self, *, kill: bool) -> None:
        self._engine.unregister(self._ours.fileno())
        self._ours.close()
        if kill:
            self._process.kill()
        self._process.wait()


def serve(token: str) -> None:
    """Be the guard of the engine ``token``, whose word comes on the standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # those are the engine's
    listeners: set[str] = set()
    while word := os.read(0, WORD).decode():
        (listeners.add if word[0] == "+" else listeners.discard)(word[1:])
    until = time.monotonic() + PATIENCE
    while listeners and time.monotonic() < until:
        listeners = {ident for ident in listeners if not messages.wake(token, ident)}
        time.sleep(STEP)
