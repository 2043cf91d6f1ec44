"""What was put into the kernel comes out again.

A device, an address, a rule outlives the process that made it, so each is remembered here from the moment it exists
until it is removed: by its owner's ``with`` block, by :func:`unwinding` when a signal ends the program, or at exit at
the latest. Making and removing run in a short-lived thread of their own (:func:`apart`), which signals do not reach:
Ctrl-C falls before or after a step, never into it. That thread may also enter another network namespace without
disturbing anybody, and may talk netlink although the caller runs an event loop.

Against SIGKILL only another process helps (:mod:`usertcp.link.janitor`); without one, what is left is recognised by its
name (see :func:`usertcp.link.provision.stale`).
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Final, Self, TypeVar

T = TypeVar("T")

_made: Final[list["Made"]] = []  # of this process, oldest first
_lock = threading.RLock()


class Ended(SystemExit):
    """A signal ends the program; the exit status is 128 plus its number."""

    code: int


class Made:
    """Something made that is undone once. ``remove`` or the end of a ``with`` block undoes it.

    ``name``   for messages
    ``netns``  the namespace it lies in; None: where the process is
    ``bound``  it is bound to a descriptor of this process, and so is its end: nobody else can undo it, nor need they
    """

    def __init__(self, name: str, netns: str | None, undo: Callable[[], None], *, bound: bool = False) -> None:
        self.name = name
        self.netns = netns
        self.bound = bound
        self._undo = undo
        with _lock:
            _made.append(self)

    @property
    def exists(self) -> bool:
        """Whether it is still to be undone."""
        return self in _made

    def keep(self) -> None:
        """Leave it in place: nobody undoes it any more."""
        with _lock:
            if self in _made:
                _made.remove(self)

    def remove(self) -> None:
        """Undo it. What is gone already, or was removed before, is no error."""
        apart(self._remove)

    def _remove(self) -> None:
        with _lock:
            if self not in _made:
                return
            _made.remove(self)
        self._undo()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()


AGAIN: Final = 0.005  # s after which a signal whose exception was dropped is sent again
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what ends a program in order


@contextmanager
def deferred() -> Iterator[None]:
    """Handlers of signals that come within the block run after it. Only the main thread has any to defer."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    late: list[int] = []
    former = {number: handler for number in SIGNALS if callable(handler := signal.getsignal(number))}
    try:
        for number in former:
            signal.signal(number, lambda number, _: late.append(number))
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    for heard in late:
        former[signal.Signals(heard)](heard, None)


def apart(work: Callable[[], T]) -> T:
    """``work()`` in a thread of its own, waited for. A signal is heard when it has ended, not before."""
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            failures.append(error)

    with deferred():
        thread = threading.Thread(target=run, name="usertcp-provision", daemon=True)
        thread.start()
        thread.join()
    if failures:
        raise failures[0]
    return results[0]


def forget_inside(netns: str) -> None:
    """The namespace is gone, and with it what was in it."""
    with _lock:
        _made[:] = [item for item in _made if item.netns != netns]


def take_over() -> list[Made]:
    """What is still there and others can undo, oldest first: from now on that is up to the caller."""
    with _lock:
        taken = [item for item in _made if not item.bound]
        _made[:] = [item for item in _made if item.bound]
    return taken


def give_back(items: list[Made]) -> None:
    """The reverse of :func:`take_over`, in this process or another."""
    with _lock:
        _made[:] = items + _made


def undo_all(since: int = 0) -> None:
    """Undo what is still there, newest first; all of it, and only then raise the first failure."""
    failure: Exception | None = None
    while len(_made) > since:
        item = _made[-1]
        try:
            item.remove()
        except Exception as error:
            failure = failure or error
    if failure is not None:
        raise failure


@contextmanager
def unwinding() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP end the program in order, as Ctrl-C does; after it nothing made is left.

    The exit status is 128 plus the signal's number. While things are being undone further signals wait. A signal that
    falls into a destructor or into the callback of a weak reference, where Python drops exceptions, is sent again.
    Handlers can be set in the main thread only; elsewhere the block just cleans up.
    """
    main = threading.current_thread() is threading.main_thread()
    former = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
    late: list[int] = []
    since = len(_made)

    former_hook = sys.unraisablehook
    dropped: list[int] = []
    timers: list[threading.Timer] = []
    hooked = False  # what is raised in the hook itself is lost for good

    def end(number: int, _: FrameType | None) -> None:
        raise Ended(128 + number)

    def on_dropped(unraisable: "sys.UnraisableHookArgs") -> None:
        nonlocal hooked
        value = unraisable.exc_value
        if isinstance(value, Ended | KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
            hooked = True
            dropped.append(value.code - 128 if isinstance(value, Ended) else signal.SIGINT)
            timers.append(threading.Timer(AGAIN, send_again))
            timers[-1].start()
            hooked = False
        else:
            former_hook(unraisable)

    def send_again() -> None:
        while hooked:
            time.sleep(AGAIN)
        os.kill(os.getpid(), dropped.pop())

    def defer(number: int, _: FrameType | None) -> None:
        late.append(number)

    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if former.get(number, signal.SIG_IGN) != signal.SIG_IGN:  # nohup(1) means what it says
                signal.signal(number, end)
        if main:
            sys.unraisablehook = on_dropped
        yield
    finally:
        for number in former:
            signal.signal(number, defer)
        if main:
            sys.unraisablehook = former_hook
        for timer in timers:
            timer.cancel()
            timer.join()
        late.extend(dropped)
        try:
            undo_all(since)
        finally:
            for number, handler in former.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
    if late:
        raise KeyboardInterrupt if late[0] == signal.SIGINT else SystemExit(128 + late[0])


atexit.register(undo_all)


def _forget_all() -> None:
    """In a child: what was made is the parent's to undo, and another thread may have been at it."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()
    _made.clear()


os.register_at_fork(after_in_child=_forget_all)
