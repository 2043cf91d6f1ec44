"""The engine: a pump that can be waited for, and a thread that does the waiting.

An :class:`Engine` gathers all that can make a turn necessary under one descriptor: the link, a wake-up from another
thread, the control socket, and whatever descriptors a front end registers. That descriptor is an epoll, which can
itself be polled; so the same engine runs in a thread of its own (:class:`EngineThread`), under the thread that happens
to wait (``blocking``), and on an asyncio loop (``driver.aio``).

    wait(timeout)  blocks, touches nothing of the stack, and may therefore run without the owner's lock
    handle(events) runs callbacks and posted calls, turns the pump, and never blocks

The engine does not decide who drives it, and knows nothing of users' sockets.
"""

import errno
import os
import select
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from usertcp.driver.base import BUDGET, Pump
from usertcp.driver.forking import ForkLock
from usertcp.errors import StackError
from usertcp.link.base import Link
from usertcp.units import NEVER, SEC

if TYPE_CHECKING:
    from concurrent.futures import Future

IN: Final = select.EPOLLIN
OUT: Final = select.EPOLLOUT
MAX_EVENTS: Final = 64  # taken from the epoll at a time
LONGEST: Final = 3600 * SEC  # ns that one wait lasts at most; epoll counts milliseconds in an int
POLITE: Final = SEC // 2  # ns that a closing host waits for its peers' FINs, when its own were acknowledged

T = TypeVar("T")
Events = list[tuple[int, int]]


class Engine:
    """A pump and everything it waits for. Used by one thread at a time, but for ``wake`` and ``post``."""

    def __init__(self, pump: Pump) -> None:
        self.pump = pump
        pump.mends = True
        self._epoll = select.epoll()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._event, IN)
        self._callbacks: dict[int, Callable[[int], object]] = {}
        self._posted: deque[Callable[[], object]] = deque()
        self._link_fd = pump.link.fileno()
        self._link_events = 0
        self.frame = [(self._link_fd, IN)]  # what ``wait`` gives when there is nothing but a frame
        self._room = True  # there is some when the link polls writable: it took something then
        self.busy_poll = 0  # ns that ``wait`` looks again and again before it sleeps
        self._closed = False
        self.on_fork: Callable[[], object] = lambda: None  # in a child, which has no use for it
        # So that nobody wakes a descriptor that has become another's; from __del__, too.
        self._ending = ForkLock()
        if self._link_fd < 0:
            _call_when_readable(pump.link, self.wake)
        self._watch_link()
        _engines.add(self)

    # -- what is waited for --------------------------------------------------------------------------------------------

    def register(self, fd: int, events: int, callback: Callable[[int], object]) -> None:
        """Call ``callback(events)`` in ``handle`` when ``fd`` has any of ``events`` (epoll's)."""
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def modify(self, fd: int, events: int) -> None:
        """Wait for other events of a registered ``fd``."""
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Forget ``fd``; to be called before it is closed."""
        if self._callbacks.pop(fd, None) is not None:
            with suppress(OSError):  # closed already: the kernel has forgotten it
                self._epoll.unregister(fd)

    def wake(self) -> None:
        """End a ``wait`` that is under way, or the next one. From any thread."""
        with self._ending:
            if not self._closed:
                os.eventfd_write(self._event, 1)

    def post(self, callback: Callable[[], object]) -> None:
        """Have ``callback()`` run in the next ``handle``, and end the ``wait``. From any thread."""
        self._posted.append(callback)
        self.wake()

    # -- running -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The calling thread runs the engine from now on."""

    def fileno(self) -> int:
        """Polls readable when ``step`` has something to do (beside what is due at ``timeout_ns``); -1 once closed."""
        return -1 if self._closed else self._epoll.fileno()

    def deadline(self, now: int) -> int:
        """When ``step`` is due although nothing comes in (ns); ``now`` or earlier: at once; NEVER."""
        return 0 if self._posted else self.pump.deadline(now)

    def timeout_ns(self) -> int:
        """Nanoseconds until then; NEVER."""
        return 0 if self._posted else self.pump.timeout_ns(self.pump.clock())

    def wait(self, timeout_ns: int) -> Events:
        """Block until something comes in, at most ``timeout_ns`` (rounded up to milliseconds)."""
        if self.busy_poll and timeout_ns > 0:
            clock = self.pump.clock
            until = clock() + min(self.busy_poll, timeout_ns)
            while clock() < until:
                events = self._epoll.poll(0, MAX_EVENTS)
                if events:
                    return events
        if timeout_ns >= NEVER:
            return self._epoll.poll(None, MAX_EVENTS)
        return self._epoll.poll(min(timeout_ns, LONGEST) / SEC, MAX_EVENTS)

    def handle(self, events: Events, budget: int = BUDGET) -> bool:
        """Do what ``events`` ask, what was posted, and a turn of the pump. True: there is more to do at once."""
        told = 0
        for fd, mask in events:
            if fd == self._link_fd:
                told = mask
                continue
            if fd == self._event:
                with suppress(BlockingIOError):
                    os.eventfd_read(fd)
            elif (callback := self._callbacks.get(fd)) is not None:
                callback(mask)
        if self._posted:
            for _ in range(len(self._posted)):
                self._posted.popleft()()
        pump = self.pump
        sent = pump.stack.stats.frames_out if told & OUT else -1
        more = pump.turn(budget)
        if pump.blocked or pump.ailing or pump.failure is not None or self._link_events != IN:
            self._room = not pump.blocked or pump.stack.stats.frames_out != sent
            self._watch_link()
        return more or bool(self._posted)

    @property
    def posted(self) -> bool:
        """Whether something waits that :meth:`post` was given."""
        return bool(self._posted)

    def step(self, timeout_ns: int = 0) -> bool:
        """Wait at most ``timeout_ns``, then do everything that is to be done. True: there is more to do at once."""
        if self._closed:
            return False
        return self.handle(self.wait(timeout_ns))

    def linger(self, deadline: int) -> None:
        """Close everything and run until the peers have acknowledged it, at most until ``deadline`` (ns).

        What is left then, or when an exception (an interrupt) ends the waiting, is reset.
        """
        with closing(self.lingering(deadline)) as waits:
            for wait in waits:
                self.step(wait)

    def lingering(self, deadline: int) -> Generator[int]:
        """The same for who runs it: how long (ns) it may wait until it looks again, as often as that is needed."""
        pump, clock = self.pump, self.pump.clock
        try:
            pump.close_all()
            pump.flush()
            start = clock()
            while pump.lingers(polite=clock() - start < POLITE) and clock() < deadline:
                yield max(0, min(self.timeout_ns(), deadline - clock(), POLITE))
        finally:
            pump.abort_all()

    def close(self) -> None:
        """Let the descriptors go; the link stays the owner's. Closing twice is harmless."""
        with self._ending:
            if not self._closed:
                self._closed = True
                self._epoll.close()
                os.close(self._event)

    def after_fork(self) -> None:
        """In a child: let go of the copies of the descriptors, the device's too. The epoll is the parent's as well, so
        nothing is unregistered."""
        self.pump.disown()
        self.on_fork()
        self._callbacks.clear()
        self._posted.clear()
        if not self._closed:
            Engine.close(self)  # and not what others add to it, which tells programs
            _innermost(self.pump.link).close()

    def _watch_link(self) -> None:
        """Wait for frames, for room too while the link is full; for nothing while it cannot be read, or once it is
        gone. What polls writable and takes nothing (a queue behind the device is full) is not asked by poll again."""
        pump = self.pump
        if self._link_fd < 0 or self._closed:
            return
        events = IN | OUT if pump.blocked and self._room else IN
        if pump.ailing or pump.failure is not None:
            events = 0
        if events == self._link_events:
            return
        try:
            if not self._link_events:
                self._epoll.register(self._link_fd, events)
            elif events:
                self._epoll.modify(self._link_fd, events)
            else:
                self._epoll.unregister(self._link_fd)
        except OSError as error:
            if events:
                pump.fail(error)
        self._link_events = events if pump.failure is None else 0


class EngineThread:
    """A daemon thread that runs an engine, and how other threads ask it to do things.

    The stack belongs to the thread: nobody else touches it, but for ``call`` and ``post``. A crash of the thread (which
    would be a bug) takes the device down as if it were unplugged: every connection fails with ENETDOWN, nobody hangs.
    """

    def __init__(self, engine: Engine, name: str = "usertcp-engine") -> None:
        self.engine = engine
        self._stop = False
        self._ended = False
        self._calls: set[Future[Any]] = set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to run."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def call(self, function: Callable[..., T], *args: Any, timeout: float | None = None) -> T:
        """The result of ``function(*args)``, run in the engine's thread; what it raises is raised here.

        StackError when the engine is not running; TimeoutError after ``timeout`` seconds.
        """
        if threading.current_thread() is self._thread:
            return function(*args)
        from concurrent.futures import CancelledError, Future  # which is slow to load, and not for who drives himself

        future: Future[T] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args))
                except BaseException as error:
                    future.set_exception(error)

        self._calls.add(future)
        try:
            # Looked at after the future is known to the thread, which cancels what it knows; a child has no thread.
            if self._ended or not self._thread.is_alive():
                raise StackError("the engine is not running")
            self.engine.post(run)
            return future.result(timeout)
        except CancelledError:
            raise StackError("the engine is not running") from None
        finally:
            future.cancel()
            self._calls.discard(future)

    def post(self, function: Callable[[], object]) -> None:
        """Have ``function()`` run in the engine's thread, some time soon."""
        self.engine.post(function)

    def stop(self, linger: float = 5.0) -> None:
        """Close every connection, wait up to ``linger`` seconds for the acknowledgments, and end the thread."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            deadline = self.engine.pump.clock() + round(linger * SEC)

            def finish() -> None:
                self._stop = True
                self.engine.linger(deadline)

            self.engine.post(finish)
            self._thread.join()
        self.engine.close()

    def _run(self) -> None:
        engine = self.engine
        try:
            engine.begin()
            while not self._stop:
                engine.step(engine.timeout_ns())
        except BaseException as error:
            engine.pump.fail(OSError(errno.ENETDOWN, f"the engine crashed: {error!r}"))
            raise
        finally:
            self._ended = True
            for future in list(self._calls):
                future.cancel()


def _call_when_readable(link: Link, wake: Callable[[], None]) -> None:
    """Hook ``wake`` to a link without a descriptor, below whatever middleware lies over it."""
    inner = _innermost(link)
    if hasattr(inner, "on_readable"):
        inner.on_readable = wake


def _innermost(link: Link) -> Link:
    """The link itself, below whatever lies over it."""
    while (inner := getattr(link, "inner", None)) is not None:
        link = inner
    return link


_engines: "Final[weakref.WeakSet[Engine]]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for engine in list(_engines):
        engine.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
