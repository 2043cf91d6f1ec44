"""A lock that does not outlive its holder: in a child after fork the thread that held it is not there to release it."""

import os
import threading
import weakref
from typing import Final


class ForkLock:
    """A reentrant lock for ``with`` statements, free in a child whoever held it when that was forked."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def after_fork(self) -> None:
        """In a child: let go of what a thread holds that is not there; who forked holds on to what it held."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


_locks: Final[weakref.WeakSet[ForkLock]] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lock in list(_locks):
        lock.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
