"""A socket engine in a thread of its own: what ``usertcp.socket`` uses unless told otherwise."""

import atexit
import os
import sys
from collections.abc import Callable
from typing import Final, TypeVar

from usertcp.driver import messages
from usertcp.driver.broker import SocketEngine
from usertcp.driver.engine import EngineThread
from usertcp.driver.local import LINGER, LocalEngine
from usertcp.driver.open import OpenStack
from usertcp.link.base import Link
from usertcp.net.stack import Stack

# While an engine runs, a thread that computes must let go of the interpreter after so long (s) when the engine's wants
# it: the engine asks after each system call. With Python's default, 5 ms, a computing thread brings bulk data down to
# 0.01 Gbit/s and makes a round trip 15 ms long. The price is a change of threads, some 5 µs, each time, and only while
# packets come. A program that computes much and needs the network's full speed has the engine in another process.
SWITCH_INTERVAL: Final = 0.0001

T = TypeVar("T")


class ThreadedEngine(LocalEngine[SocketEngine]):
    """A stack on a link, run by a thread, and the broker through which sockets reach it."""

    def __init__(self, stack: Stack, link: Link, opened: OpenStack | None = None) -> None:
        """Started at once. ``link`` is the caller's, unless it comes with ``opened``."""
        super().__init__(stack, link, opened, SocketEngine)
        self._pid = os.getpid()
        self._thread = EngineThread(self._engine, "usertcp-socket")
        try:
            self._thread.start()
        except BaseException:  # there can be no more threads
            self._hush()
            self._engine.close()
            raise
        _switch_fast(self)
        atexit.register(self.close)

    @property
    def alive(self) -> bool:
        """Whether sockets can still use it."""
        return self._thread.alive and super().alive

    def call(self, function: Callable[..., T], *args: object) -> T:
        """Run ``function(*args)`` in the engine's thread, the only one that may touch the stack."""
        return self._thread.call(function, *args, timeout=messages.PATIENCE)

    def close(self, linger: float = LINGER) -> None:
        """Deliver what was sent, at most ``linger`` seconds long, and stop. Harmless when repeated.

        Sockets that are still open get ENETDOWN.
        """
        atexit.unregister(self.close)
        if self._pid != os.getpid():  # a forked child has no engine of its own
            return
        self._hush()
        self._thread.stop(linger)
        self._let_go()
        _switch_as_before(self)


_switching: Final[set[ThreadedEngine]] = set()  # those that run
_former_interval = SWITCH_INTERVAL


def _switch_fast(engine: ThreadedEngine) -> None:
    """``engine`` begins: threads are to change often, until the last one has ended."""
    global _former_interval  # noqa: PLW0603
    if not _switching:
        _former_interval = sys.getswitchinterval()
        sys.setswitchinterval(min(SWITCH_INTERVAL, _former_interval))
    _switching.add(engine)


def _switch_as_before(engine: ThreadedEngine) -> None:
    if engine in _switching:
        _switching.remove(engine)
        if not _switching:
            sys.setswitchinterval(_former_interval)
