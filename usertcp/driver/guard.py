"""What is left when an engine's process is killed: somebody who wakes the programs that wait for it.

The kernel tells a program that its engine is dead, on every connection, because the engine's end of it is closed. Of a
listener there is no such end: whoever waits in accept or select would wait for ever. So an engine that is a process of
its own has a guard, a small process that knows the names of its listeners and, when the engine is gone, puts
connections into their accept queues that say so (:func:`usertcp.driver.messages.wake`); whoever finds one passes it on.
It has the rights that the engine had when it was started, and needs none.

::

    engine                          guard
                   <------------    READY
    "+ID", "-ID"   ------------>    remembers the listeners
    ends, however  -- end of file ->  wakes those that are left, and ends
"""

import _socket
import contextlib
import errno
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

from usertcp.driver import messages
from usertcp.link.forked import forked
from usertcp.units import MS

if TYPE_CHECKING:
    from usertcp.driver.broker import SocketEngine

PATIENCE: Final = 10.0  # seconds that a full accept queue is tried for
STEP: Final = 0.01  # seconds between two tries
WORD: Final = 64  # bytes that are more than any message has
READY: Final = b"ready"
STUCK: Final = 1.0  # seconds in which a guard that is not stopped takes a word
TRIES: Final = 5  # guards in a row that do not get ready, after which there is none
RETRY: Final = 100 * MS  # ns until the second of them is started; twice as much each time
SCARCE: Final = 500 * MS  # ns until one is started for which there was no descriptor
DESCRIPTORS: Final = (errno.EMFILE, errno.ENFILE)


class Guard:
    """The engine's side: a process that is told of listeners. One that has died, or does not listen, is replaced.

    If it cannot even start, that is tried some times more, ever later, and then said.
    """

    def __init__(self, engine: "SocketEngine") -> None:
        self._engine = engine
        self._broker = engine.broker
        self._ours: _socket.socket | None = None  # None: there is no guard
        self._process: int | None = None
        self._failures = 0  # guards in a row that did not get ready
        self._ready = False
        self._start()
        self._broker.on_post = self._tell

    def _start(self) -> None:
        self._ready = False
        try:
            self._ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        except OSError:  # no descriptors
            self._start_later()
            return
        self._ours.settimeout(STUCK)
        self._engine.register(self._ours.fileno(), select.EPOLLIN, self._hear)
        try:
            self._process = forked(lambda: serve(self._broker.token), theirs.fileno())
        except OSError as error:
            if error.errno in DESCRIPTORS:
                self._end(kill=False)
                self._start_later()
                return
            print(f"the engine's guard does not start: {error}", file=sys.stderr)
        finally:
            theirs.close()
        for ident in self._broker.posts():
            self._tell(ident, True)

    def _start_later(self) -> None:
        """There are no descriptors for it, and may be some later."""
        self._broker.call_at(self, self._broker.now() + SCARCE)

    def _hear(self, mask: int) -> None:
        """It is ready, or dead."""
        assert self._ours is not None
        try:
            word = self._ours.recv(WORD)
        except OSError:  # it died with something unread
            word = b""
        if word == READY:
            self._ready, self._failures = True, 0
        else:
            self._replace()

    def _tell(self, ident: str, there: bool) -> None:
        """The listener ``ident`` has come, or is gone."""
        if self._ours is None:
            return
        try:
            self._ours.send(f"{'+' if there else '-'}{ident}".encode())
        except TimeoutError:  # stopped
            self._replace()
        except OSError:  # dead, and the next one is told of all
            pass

    def _replace(self) -> None:
        self._end(kill=True)
        if self._ready:
            self._start()
            return
        self._failures += 1
        if self._failures < TRIES:
            self._broker.call_at(self, self._broker.now() + (RETRY << self._failures - 1))
            return
        print(
            f"the engine's guard did not start in {TRIES} tries: if the engine is killed, programs that wait in accept"
            " are not told. What is said above is the reason; start the engine anew when it is mended.",
            file=sys.stderr,
            flush=True,
        )

    def on_due(self, now: int) -> None:
        """The next try."""
        self._start()

    def close(self) -> None:
        """The engine ends: the guard does too, once it has woken those that nobody else has."""
        self._broker.on_post = lambda ident, there: None
        self._end(kill=False)

    def _end(self, *, kill: bool) -> None:
        if self._ours is not None:
            self._engine.unregister(self._ours.fileno())
            self._ours.close()
            self._ours = None
        if self._process is not None:
            if kill:
                os.kill(self._process, signal.SIGKILL)
            os.waitpid(self._process, 0)
            self._process = None


def serve(token: str) -> None:
    """Be the guard of the engine ``token``, whose word comes on the standard input."""
    with contextlib.suppress(OSError):  # the engine is dead already
        os.write(0, READY)
    listeners: set[str] = set()
    while word := _next_word():
        (listeners.add if word[0] == "+" else listeners.discard)(word[1:])
    until = time.monotonic() + PATIENCE
    while listeners and time.monotonic() < until:
        listeners = {ident for ident in listeners if not messages.wake(token, ident)}
        time.sleep(STEP)


def _next_word() -> str:
    """What the engine says next; nothing: it has ended. If it did without reading our word, an error says so first."""
    try:
        return os.read(0, WORD).decode()
    except ConnectionResetError:
        return os.read(0, WORD).decode()
