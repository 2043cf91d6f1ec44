"""Leader and followers: several threads use one stack, and whoever must wait runs it.

A thread that must wait (for data, room, a handshake) does not sleep until another has done the work: it reads the
device and runs the stack itself, under the host's lock, which it gives up only to block in the kernel. That is the
*leader*. Others that must wait meanwhile are *followers*; each sleeps on a condition of its own until its connection is
ready, or until the leader has what it wanted and passes the lead on. What needs no waiting (a send that fits the
buffer, a recv of what is there) any thread does at once, under the lock, leader or not.

When nobody waits, somebody must still acknowledge, retransmit and answer keepalives: the *keeper*, a daemon thread that
looks in a hundred times a second, takes the lead when it finds that nobody has had it for a while, and hands it back to
the first thread that needs it. It looks in once a second while a leader does.
"""

import errno
import threading
from collections.abc import Callable
from typing import Final, Self

from usertcp.driver.base import BUDGET, Pump
from usertcp.driver.engine import Engine
from usertcp.errors import StackError, os_error
from usertcp.link.base import Link
from usertcp.net.stack import Stack
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.units import MS, NEVER, US, from_seconds

GRACE: Final = 10 * MS  # how often the keeper looks in; it takes the lead when nobody had it for so long
PARK: Final = 50  # looks at one and the same leader after which the keeper sleeps until that leader leaves
SELDOM: Final = 1.0  # seconds that it sleeps then at most: an interrupt may keep a leader from saying that it leaves
LONE: Final = 2048  # bytes; less than this in a turn is no bulk transfer
FEW: Final = 4  # frames; with more in a turn several connections are probably at work
SIPS: Final = 32  # turns that read no more than is waited for, after one that found few


class Watch:
    """What stands in the ``user`` slot of a core object: the followers that wait for it, until it is closed."""

    __slots__ = ("_closed", "_followers", "_host")

    def __init__(self, host: "Attended") -> None:
        self._host = host
        self._closed = False
        self._followers: tuple[threading.Lock, ...] = ()

    def on_ready(self) -> None:
        """Wake who waits for this (under the lock; from a turn, or from a user's call)."""
        for asleep in self._followers:
            self._host._awaken(asleep)
        if self._host._waiting_for is self:
            self._host._rouse()

    def _expected(self) -> Connection | Listener | None:
        """What who waits for this goes on with: a connection, or the next of a listener's."""
        return None

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    def close(self) -> None:
        raise AssertionError("what can be waited for knows how to close")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Attended(Watch):
    """A stack that is attended to by the threads that use it. ``busy_poll``: microseconds that a leader looks at the
    device again and again before it sleeps."""

    def __init__(self, stack: Stack, link: Link, clock: Callable[[], int], busy_poll: int) -> None:
        super().__init__(self)
        self.stack = stack
        self._clock = clock
        self._pump = Pump(stack, link, clock)
        self._pump.yields = True
        self._engine = Engine(self._pump)
        self._engine.busy_poll = busy_poll * US
        self._engine.on_fork = self._after_fork
        self._lock = threading.Lock()
        self._leading = False
        self._waiting_for: Watch | None = None  # what the leader waits for
        self._sleeps_until = 0  # when the leader, blocked in the kernel, wakes by itself (ns); 0: it is not
        self._sips = SIPS  # turns in which a leader expects what he waits for and no more
        self._asleep: dict[threading.Lock, None] = {}  # what all followers wait for, the longest waiting first
        self._stints = 0  # times the lead was taken or a user's call did a turn
        self._left = threading.Condition(self._lock)  # told when the lead is given up while closing
        self._keeper_leads = False
        self._deposed = False
        self._parked = False
        self._look_in = threading.Condition(self._lock)  # told when the keeper should look in
        self._keeper = threading.Thread(target=self._keep, name=f"usertcp-keeper-{link.name}", daemon=True)

    def _wait(self, watch: Watch, done: Callable[[], bool], deadline: int) -> bool:
        """Until ``done()``, which does not hold yet and is looked at when ``watch`` is woken, or ``watch`` is closed;
        False when ``deadline`` (ns) passed first.

        Called and left with the lock held, which is given up meanwhile. EBADF when the host was closed.
        """
        while True:
            self._check_open()
            if deadline < NEVER and self._clock() >= deadline:
                return False
            if self._leading:
                self._follow(watch, deadline)
            elif self._lead(watch, done, deadline):
                return True
            ends = done() or watch._closed
            if not self._leading and (ends or self._clock() >= deadline):
                self._pass_on()  # to this thread it was of no use
            if ends:
                return True

    def _lead(self, watch: Watch, done: Callable[[], bool], deadline: int) -> bool:
        """Run the stack until ``done()`` (True), the deadline, or the end of ``watch`` or the host.

        Where frames were small and few, the next one is probably what is waited for: then it is looked at before the
        device is asked for more. Now and then all that waits is read nevertheless: of many connections that talk at a
        time, the others then find theirs already there. The ACK of a SYN,ACK or FIN that ends the waiting is left for
        what the user does next, to ride along; if that is nothing, the keeper finds it.
        """
        engine, pump, lock, clock = self._engine, self._pump, self._lock, self._clock
        stack = self.stack
        stats, more = stack.stats, False
        company = None if stack.stirred else watch._expected()
        budget = 1 if self._sips > 0 else BUDGET
        try:
            self._leading = True
            self._waiting_for = watch
            self._stints += 1
            while True:
                timeout, awaited = 0, None
                if not more:
                    now = clock()
                    if now >= deadline:
                        return False
                    wake = engine.deadline(now)
                    if wake > deadline:
                        wake = deadline
                    if wake < now:
                        wake = now
                    self._sleeps_until = wake
                    timeout = wake - now if wake < NEVER else NEVER
                    if budget == 1 and timeout and isinstance(company, Connection) and not watch._followers:
                        awaited = stack.expect(company)
                try:
                    lock.release()  # in here: a signal that was waiting is heard when this returns
                    events = engine.wait(timeout)
                finally:
                    lock.acquire()
                    self._sleeps_until = 0
                if awaited is not None and events == engine.frame and not engine.posted and pump.hear(awaited):
                    self._sips -= 1
                    return True
                frames, octets = stats.frames_in, stats.bytes_in
                stack.company = company
                more = engine.handle(events, budget)
                stack.company = None
                if stats.bytes_in - octets >= LONE or stats.frames_in - frames > FEW:
                    self._sips = 0
                else:
                    self._sips = self._sips - 1 if budget == 1 else SIPS
                if done():
                    return True
                if stack.stirred:
                    company = None
                budget = 1 if self._sips > 0 else BUDGET
                if watch._closed or self._closed or self._pump.failure is not None:
                    return False
                if more and deadline < NEVER and clock() >= deadline:
                    return False
        finally:
            self._leading = False
            self._waiting_for = stack.company = None
            self._pass_on()

    def _follow(self, watch: Watch, deadline: int) -> None:
        """Sleep until ``watch`` is ready, the lead is free, or the deadline."""
        asleep, lock = threading.Lock(), self._lock
        asleep.acquire()
        watch._followers += (asleep,)
        self._asleep[asleep] = None
        if self._keeper_leads and not self._deposed:
            self._deposed = True
            self._engine.wake()
        timeout = -1 if deadline >= NEVER else max(0, deadline - self._clock()) / 1e9
        try:
            lock.release()  # in here, as where a leader sleeps
            asleep.acquire(timeout=timeout)
        finally:
            lock.acquire()
            self._asleep.pop(asleep, None)
            watch._followers = tuple([one for one in watch._followers if one is not asleep])

    def _awaken(self, asleep: threading.Lock) -> None:
        """Wake the follower who waits for ``asleep``, if he was not woken yet."""
        if asleep in self._asleep:
            del self._asleep[asleep]
            asleep.release()

    def _pass_on(self) -> None:
        """The lead is free: to the closer, a follower, or (when it sleeps for good) the keeper."""
        if self._closed:
            self._left.notify_all()
        for asleep in self._asleep:
            self._awaken(asleep)
            return
        if self._parked:
            self._parked = False
            self._look_in.notify()

    def _rouse(self) -> None:
        """End the leader's sleep in the kernel."""
        if self._sleeps_until:
            self._sleeps_until = 0
            self._engine.wake()

    def _flush(self, conn: Connection | None = None) -> None:
        """Send what a user's call has made ready, of ``conn`` if it was opened or closed, and see to it that somebody
        attends to what follows."""
        pump = self._pump
        if conn is not None:
            pump.tell(conn)
        if self.stack.busy:
            while pump.flush():
                pass
        if self._sleeps_until:
            if pump.deadline(self._clock()) < self._sleeps_until:
                self._rouse()
        elif not self._leading:
            self._stints += 1
            if pump.blocked:
                self._look_in.notify()

    def _turn(self) -> None:
        """As ``_flush``, but look as well at what has come in, which keeps the flight short. Nobody leads."""
        self._engine.handle([])
        self._stints += 1
        if self._pump.blocked:
            self._look_in.notify()

    def _look(self) -> None:
        """Look at what has come in, for who is about to write, and leave it to that to answer. Nobody leads."""
        if self._engine.posted:
            self._turn()
        else:
            self._stints += 1
            self._pump.look()

    def _keep(self) -> None:
        """The keeper's thread."""
        seen, looks = -1, 0
        with self._lock:
            while not self._closed:
                if self._parked:
                    self._look_in.wait(SELDOM)
                else:
                    told = self._look_in.wait(GRACE / 1e9)
                    if told and not self._leading and self._pump.blocked:
                        seen = self._stints
                if self._closed:
                    return
                if seen != self._stints:
                    seen, looks = self._stints, 0
                elif self._leading:
                    looks += 1
                    self._parked = looks >= PARK
                else:
                    self._keep_leading()
                    seen, looks = self._stints, 0

    def _keep_leading(self) -> None:
        """Lead until somebody needs the lead."""
        self._keeper_leads, self._deposed = True, False
        try:
            _ = self._lead(self, lambda: self._deposed, NEVER)
        except Exception as error:
            self._pump.fail(OSError(errno.ENETDOWN, f"the stack crashed: {error!r}"))
            raise
        finally:
            self._keeper_leads = False

    def _deadline(self, timeout: float | None) -> int:
        return NEVER if timeout is None else self._clock() + from_seconds(timeout)

    def _check_open(self) -> None:
        if self._closed:
            raise os_error(errno.EBADF)
        failure = self._pump.failure
        if failure is not None:
            raise StackError(str(failure.strerror))

    def _finish(self, linger: float) -> None:
        """The end, under the lock: nobody waits or leads any more, and every connection is closed, or reset when its
        peer has not acknowledged that in ``linger`` seconds."""
        self._closed = True
        for asleep in list(self._asleep):
            self._awaken(asleep)
        self._look_in.notify()
        self._rouse()
        try:
            while self._leading:
                self._left.wait()
            self._leading = True
            if linger > 0:
                self._engine.linger(self._clock() + from_seconds(linger))
            else:
                self._pump.abort_all()
        finally:
            self._leading = False

    def _after_fork(self) -> None:
        """In a child, where the host is closed: another thread of the parent may have held the lock."""
        self._lock, self._closed = threading.Lock(), True
