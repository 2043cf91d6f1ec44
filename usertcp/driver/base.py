"""The pump: one stack, one link and one clock, and a turn of the crank.

A stack does nothing by itself. Somebody hands it the frames that have come in, asks it for those that are to go out,
and comes back at its next deadline; that is a *turn*, and every road to a connection (a waiting thread, an engine's
thread, an asyncio loop, the simulated world) is only another answer to the question who makes the turns:

    tick the link -> read frames, a slice at a time -> after each slice let the stack send -> tell the front ends

A turn is bounded by a budget of frames, so that whoever shares the thread gets its share of the time. Reading is cut in
slices because acknowledgments leave between them: a peer whose window is full must not wait for a whole budget. After a
slice that made something ready the turn is over: who waits for it takes what came while it is still in the cache.

Front ends are told through the free ``user`` slot of what became ready (a connection, a listener, a pinger): it holds
None or an object with ``on_ready()``. Readiness is a level: ``on_ready`` says "look again", it carries no news itself.

The pump does not wait, starts no thread and reads no clock but the one it was given; waiting is in ``engine``.
"""

import errno
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from usertcp.driver.mending import mend
from usertcp.errors import StackError
from usertcp.frame import FrameMeta
from usertcp.link.base import Link
from usertcp.net.burst import Frame
from usertcp.net.shortcut import Awaited
from usertcp.net.stack import Stack
from usertcp.tcp.buffers import ReceiveBuffer
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.tcp.ring import Buffer
from usertcp.tcp.state import EOF, FAILED, GONE, READABLE, State
from usertcp.units import MS, NEVER

BUDGET: Final = 64  # frames read, and about as many sent, in one turn
SLICE_FRAMES: Final = 32  # frames read before the stack may answer
SLICE_BYTES: Final = 256 << 10  # bytes read before the stack may answer
OFFER_BYTES: Final = 1 << 20  # the same while a reader waits who takes as much
PLENTY: Final = 32 << 10  # bytes at a time; who receives so much finds more
LARGEST: Final = 64 << 10  # bytes of text in one frame, at most
CATCH: Final = 8  # frames among which the answer is, if there is one already
_GOES_ON: Final = READABLE | EOF | FAILED | GONE  # who waits for something to read has it
LOOK: Final = MS // 2  # how long a sender does without looking for acknowledgments, when its buffer is half empty
ROUNDS: Final = 16  # times that callbacks may cause callbacks within one turn
RETRY: Final = 1 * MS  # a full or failing device is tried again after this long, then after twice as long each time,
MAX_RETRY: Final = 64 * MS  # up to this, until it has done something again

# The device is gone for good. Anything else that a device reports (EIO while it is down, ENOBUFS) loses one frame,
# which is what TCP is made for.
FATAL: Final = frozenset({errno.ENETDOWN, errno.ENODEV, errno.ENXIO, errno.EBADF, errno.EBADFD})


# What we sent, the FIN included, is not all acknowledged: a host that goes away now would lose it.
UNFINISHED: Final = frozenset(
    {State.SYN_RECEIVED, State.ESTABLISHED, State.CLOSE_WAIT, State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK}
)


def _wanted(goal: ReceiveBuffer) -> int:
    """Bytes to be read for the reader who waits at ``goal``: not much more than it has room for, since what is too much
    is copied twice."""
    return min(max(goal.wanted, SLICE_BYTES) - LARGEST, OFFER_BYTES)


class Backoff:
    """How long to leave a device alone that did nothing when it was last asked: ``until`` (ns)."""

    __slots__ = ("_done", "_pause", "until")

    def __init__(self) -> None:
        self.until = 0
        self._pause = RETRY
        self._done = -1

    def failed(self, now: int, done: int) -> None:
        """It did nothing at ``now``; so far it has ``done`` so much. Being asked ahead of time changes nothing."""
        if self.until - MAX_RETRY <= now < self.until:
            return
        self._pause = min(2 * self._pause, MAX_RETRY) if done == self._done else RETRY
        self._done = done
        self.until = now + self._pause


class Watcher(Protocol):
    """What a front end puts into the ``user`` slot of a connection, listener or pinger."""

    def on_ready(self) -> None:
        """Something changed: look at the levels again. Called within a turn; may call the core, but not the pump."""
        ...


class Pump:
    """A stack on a link. Used by one thread at a time.

    ``goal``     where text lands for the reader who waits (:meth:`offer`), of several the latest
    ``pending``  the last turn left work that needs no event to go on (budget spent)
    ``blocked``  the link was full: go on when it is writable, or after a while
    ``ailing``   the link could not be read: try again after a while, whatever its descriptor says
    ``mends``    a turn that is broken off ends the connection in hand, and the others go on
    ``yields``   what a signal's handler may have raised is raised all the same
    ``failure``  why the device is gone, or None. Nothing moves any more once it is set
    ``lost``     frames that the device refused for good
    ``turned_at``  when the last turn began
    """

    __slots__ = (
        "_dying",
        "_full",
        "_pairs",
        "_send",
        "_sick",
        "_ticks",
        "ailing",
        "blocked",
        "clock",
        "failure",
        "goal",
        "link",
        "lost",
        "mends",
        "on_failure",
        "pending",
        "stack",
        "turned_at",
        "yields",
    )

    def __init__(self, stack: Stack, link: Link, clock: Callable[[], int]) -> None:
        self.stack = stack
        self.link = link
        self.clock = clock
        self.goal: ReceiveBuffer | None = None
        self.pending = False
        self.blocked = False
        self.ailing = False
        self.mends = self.yields = False
        self.failure: OSError | None = None
        self.on_failure: Callable[[], None] | None = None  # called once, when ``failure`` is set
        self.lost = 0
        self.turned_at = 0
        self._dying: OSError | None = None  # the fatal error that came in the middle of a turn, whose end acts on it
        self._pairs = False
        self._full = Backoff()
        self._sick = Backoff()
        self._send = link.send
        self._ticks = type(link).tick is not Link.tick

    # -- turning ---------------------------------------------------------------------------------------------------

    def turn(self, budget: int = BUDGET) -> bool:
        """Receive, send, and tell the front ends. True: there is more to do at once (call again)."""
        if self.failure is not None:
            return False
        now = self.turned_at = self.clock()
        if self._ticks:
            self.link.tick(now)
        try:
            return self._settle(self._exchange(budget) if budget > 1 else self._sip(now))
        except BaseException as error:
            if not self._mend(error):
                raise
            return True

    def hear(self, awaited: Awaited) -> bool:
        """Read a frame for who waits for an answer (:meth:`Stack.expect`). True: it is that, it is in his memory, and
        nobody else is concerned. False: a turn must follow."""
        try:
            now = self.turned_at = self.clock()
            got = self.link.read()
            if got is not None:
                if self.stack.hear(awaited, got[0], now, got[1]):
                    return True
                self.stack.receive(got[0], now, got[1])
        except OSError as error:
            self._read_failed(error)
        except BaseException as error:
            if not self._mend(error):
                raise
        return False

    def gulp(self, conn: Connection, target: memoryview) -> int:
        """A turn of who reads a stream: what continues it goes straight to ``target``; how much did.

        It is a short one. While more waits, the acknowledgment of what was taken does, too, for the next gulp to send.
        """
        if self.failure is not None:
            return 0
        buffer = conn.rcv.buffer
        before, dry = buffer.read_seq, True
        now = self.turned_at = self.clock()
        try:
            if self._ticks:
                self.link.tick(now)
            self.blocked = self.ailing = False
            pulled = self.stack.pull(conn, target, self.link, SLICE_FRAMES, OFFER_BYTES, now)
            if pulled is None:
                dry = self._gulp_on(conn, target, None, SLICE_FRAMES)
            else:
                got, count, _, dry = pulled
                rest = len(target) - buffer.read_seq + before
                if got is not None or (not dry and rest >= LARGEST and count < SLICE_FRAMES):
                    dry = self._gulp_on(conn, target[len(target) - rest :], got, SLICE_FRAMES - count)
                    if buffer.read_seq != before:
                        conn.lower()
        except OSError as error:
            self._read_failed(error)
        except BaseException as error:
            if not self._mend(error):
                raise
        landed = buffer.read_seq - before
        if not landed or self._dying is not None or not self.stack.answer(conn, now, self, waits=not dry):
            _ = self.flush()
        elif self.stack.news:
            self._notify()
        return landed

    def _gulp_on(self, conn: Connection, target: memoryview, got: Frame | None, frames: int) -> bool:
        """The rest of such a turn, when ``got`` or what comes next is something else. True: nothing waits any more."""
        if not self.offer(conn, target):
            return True
        try:
            if got is not None:
                self.stack.receive(got[0], self.clock(), got[1])
                frames -= 1
            return self._take_slice(frames, _wanted(conn.rcv.buffer))
        finally:
            _ = self.take_back(conn)

    def flush(self, budget: int = BUDGET) -> bool:
        """Only send: what a front end calls after it wrote, read or closed. True: there is more to do at once."""
        if self.failure is not None:
            return False
        now = self.clock()
        if self._ticks:
            self.link.tick(now)
        self.blocked = False
        try:
            return self._settle(self.stack.poll(now, self, budget))
        except BaseException as error:
            if not self._mend(error):
                raise
            return True

    def say(self, conn: Connection, data: Buffer) -> int:
        """Hand in ``data`` for ``conn`` and send it, if that can be done in one step (:meth:`Stack.say`); its bytes.
        0: nothing has changed."""
        if self.failure is not None or self._ticks:
            return 0
        self.blocked = False
        try:
            return self.stack.say(conn, data, self.clock(), self)
        except BaseException as error:
            if not self._mend(error):
                raise
            return 0

    def tell(self, conn: Connection) -> None:
        """Send at once what ``conn`` has to say, which its user has just opened or closed (:meth:`Stack.tell`)."""
        if self.failure is not None or self._ticks or self.stack.news:
            return
        self.blocked = False
        try:
            self.stack.tell(conn, self.clock(), self)
        except BaseException as error:
            if not self._mend(error):
                raise

    def catch(self, conn: Connection, bits: int, *, company: bool) -> bool:
        """Take what has come, until ``conn`` is ready for any of ``bits``: for who has just asked what the other end of
        the device, where that is a kernel, has answered by now. Whether it is; only others are told of what they got.
        ``company``: an ACK of ``conn`` is left for what its user does next."""
        if self.failure is not None or self._ticks:
            return False
        stack = self.stack
        stack.company = conn if company else None
        self.turned_at = now = self.clock()
        try:
            _ = self._catch(conn, bits, now)
            stack.news.pop(conn, None)
            if stack.news or stack.busy or self._dying is not None:
                _ = self.flush()
        finally:
            stack.company = None
        return conn.ready & bits != 0

    def _catch(self, awaited: Connection | Listener | None, bits: int, now: int) -> bool:
        """Receive up to ``CATCH`` frames, until there are none, or ``awaited`` is ready for any of ``bits``; one, if
        nobody is. Whether there may be more.

        The end of a stream mostly comes right behind its last text, or it never does: as it was last time.
        """
        read, receive = self.link.read, self.stack.receive
        try:
            for _ in range(CATCH):
                got = read()
                if got is None:
                    if awaited is not None and awaited.ready & bits:
                        self._pairs = False
                    return False
                receive(got[0], now, got[1])
                if awaited is None:
                    break
                ready = awaited.ready & bits
                if ready and (ready != READABLE or not self._pairs):
                    self._pairs = self._pairs or ready & EOF != 0
                    break
        except OSError as error:
            self._read_failed(error)
        except BaseException as error:
            if not self._mend(error):
                raise
        return True

    def look(self) -> None:
        """Take what has come, for who is about to write: what is to be said of it may leave with that."""
        if self.failure is not None:
            return
        try:
            now = self.turned_at = self.clock()
            if self._ticks:
                self.link.tick(now)
            self.blocked = self.ailing = False
            _ = self._take_slice(SLICE_FRAMES, SLICE_BYTES)
        except BaseException as error:
            if not self._mend(error):
                raise
        if self.stack.news or self._dying is not None:
            _ = self.flush()

    def should_look(self, conn: Connection) -> bool:
        """Whether who writes to ``conn`` should see what is acknowledged, by :meth:`look` before it or by a turn after
        it: there may soon be no room for more, or nobody has looked for a while."""
        snd = conn.snd
        return snd.board.in_flight > snd.buffer.limit >> 1 or self.clock() - self.turned_at > LOOK

    def offer(self, conn: Connection, target: memoryview) -> bool:
        """Let what comes next for ``conn`` go straight to ``target``, for a reader who waits; see
        :meth:`Connection.offer`. Slices are cut to what it takes."""
        if not conn.offer(target):
            return False
        self.goal = conn.rcv.buffer
        return True

    def take_back(self, conn: Connection) -> int:
        """End the offer; how many bytes of the target were filled."""
        if self.goal is conn.rcv.buffer:
            self.goal = None
        return conn.take_back()

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        """The sink that the stack sees: the link, with its errors turned into answers."""
        try:
            if self._send(header, payload, meta):
                return True
        except BlockingIOError:
            pass
        except OSError as error:
            if self._survives(error):
                return True
        self.blocked = True
        self._full.failed(self.clock(), self.stack.stats.frames_out)
        return False

    def _sip(self, now: int) -> bool:
        """Read the few frames that there probably are, until who is waited for can go on, and let the stack answer.
        True: more waits."""
        company = self.stack.company
        self.blocked = self.ailing = False
        got = self._catch(company, _GOES_ON if isinstance(company, Connection) else 0, now)
        more = self.stack.poll(now, self, BUDGET)
        return more or (got and self.link.fileno() < 0)  # what waits in a descriptor is told by that

    def _exchange(self, budget: int) -> bool:
        """Read up to ``budget`` frames and let the stack answer after each slice. True: more waits.

        Every frame has its own time: a turn may last some milliseconds, and round trips are measured by it.
        """
        poll, clock, goal = self.stack.poll, self.clock, self.goal
        self.blocked = self.ailing = False
        while True:
            size = SLICE_BYTES if goal is None else _wanted(goal)
            dry = self._take_slice(min(SLICE_FRAMES, budget), size)
            more = poll(clock(), self, BUDGET)
            if dry:
                return more
            budget -= SLICE_FRAMES
            if budget <= 0 or self.blocked or self.stack.news:
                return more or self.link.fileno() < 0  # what waits in a descriptor is told by that

    def _take_slice(self, frames: int, size: int) -> bool:
        """Receive up to ``frames``, until they have ``size`` bytes. True: nothing waits any more."""
        link, clock = self.link, self.clock
        receive, follow = self.stack.receive, self.stack.follow
        while frames > 0 and size > 0:
            try:
                got, count, octets, dry = follow(link, clock, frames, size)
                frames -= count
                size -= octets
                if dry:
                    return True
                if got is None:
                    continue
                frame, meta = got
                frames -= 1
                size -= len(frame)
                receive(frame, clock(), meta)
            except OSError as error:
                self._read_failed(error)
                return True
        return False

    def _read_failed(self, error: OSError) -> None:
        """Nothing could be read. The device may say so for long, and all the time that there is something."""
        if self._survives(error):
            self.ailing = True
            self._sick.failed(self.clock(), self.stack.stats.frames_in)

    def _settle(self, more: bool) -> bool:
        """Dispatch readiness, send what the callbacks wrote, and note what is left."""
        stack = self.stack
        if not stack.news and self._dying is None:
            self.pending = more and not self.blocked
            return self.pending
        for _ in range(ROUNDS):
            if self._dying is not None:
                self.fail(self._dying)
                return False
            if not stack.news:
                break
            self._notify()
            if stack.busy:
                more = stack.poll(self.clock(), self, BUDGET)
        else:
            more = True
        self.pending = more and not self.blocked
        return self.pending

    def _notify(self) -> None:
        """Tell the front ends what became ready."""
        for item in self.stack.take_ready():
            user = item.user
            if user is not None:
                user.on_ready()

    # -- waiting ---------------------------------------------------------------------------------------------------

    def deadline(self, now: int) -> int:
        """When the next turn is due although nothing comes in (ns); ``now`` or earlier: at once; NEVER."""
        if self.failure is not None:
            return NEVER
        if self.blocked:
            return min(self._full.until, self._sick.until) if self.ailing else self._full.until
        if self.pending:
            return now
        due = self.stack.next_deadline()
        if self.ailing:
            due = min(due, self._sick.until)
        return min(due, self.link.next_deadline()) if self._ticks else due

    def timeout_ns(self, now: int) -> int:
        """Nanoseconds until the next turn is due, 0 at once, NEVER when nothing is scheduled."""
        deadline = self.deadline(now)
        return NEVER if deadline >= NEVER else max(0, deadline - now)

    def fileno(self) -> int:
        """What to poll for frames (and, while ``blocked``, for room); -1: the link has no descriptor."""
        return -1 if self.failure is not None else self.link.fileno()

    # -- going away ------------------------------------------------------------------------------------------------

    def close_all(self, close: Callable[[Connection], object] = Connection.close) -> None:
        """Close every listener, and every connection as its user would; the FINs leave in the next turns.

        ``close`` is for front ends that hold data back: a FIN must not come before it.
        """
        for listener in list(self.stack.listeners()):
            listener.close()
        for conn in list(self.stack.connections()):
            close(conn)

    def lingers(self, *, polite: bool = False) -> bool:
        """Whether a peer has still to acknowledge something of ours; ``polite``: or has not closed its side yet."""
        if self.failure is not None:
            return False
        return any(
            conn.state in UNFINISHED or (polite and conn.state is State.FIN_WAIT_2) for conn in self.stack.connections()
        )

    def abort_all(self) -> None:
        """Reset what has not ended, TIME-WAIT apart, and send the resets as far as the link takes them."""
        for conn in list(self.stack.connections()):
            if conn.state is not State.TIME_WAIT:
                conn.abort()
        while self.flush():
            pass

    # -- the end of the device ---------------------------------------------------------------------------------------

    def _mend(self, error: BaseException) -> bool:
        """``error`` broke a turn off (:mod:`usertcp.driver.mending`). False: it must be raised all the same."""
        return self.mends and mend(self.stack, error, yields=self.yields)

    def _survives(self, error: OSError) -> bool:
        """Whether the device only lost a frame; otherwise the turn ends with ``fail``. What has no number is not the
        device's: a signal's handler raised it."""
        if error.errno is None:
            raise error
        if error.errno in FATAL:
            self._dying = error
            return False
        self.lost += 1
        return True

    def disown(self) -> None:
        """This process is a child of the one that the device belongs to: nothing is read or sent here any more.

        The fork may have come in the middle of a turn; nobody is told, for whoever waited is in the other process.
        """
        self.failure = StackError(f"the device {self.link.name} belongs to the process that has forked")
        self.on_failure = None
        self.pending = self.blocked = self.ailing = False
        for conn in list(self.stack.connections()):
            conn.user = None
            with suppress(Exception):
                conn.fail(errno.ENETDOWN)

    def fail(self, cause: OSError) -> None:
        """The device is gone: every connection gets ENETDOWN and everybody who waits is woken."""
        if self.failure is not None:
            return
        self.failure = StackError(f"the device {self.link.name} is gone ({cause.strerror or cause})")
        stack = self.stack
        for conn in list(stack.connections()):
            if conn.state is not State.CLOSED:
                conn.fail(errno.ENETDOWN)
        self.pending = self.blocked = self.ailing = False
        if self.on_failure is not None:
            self.on_failure()
        for item in [*stack.take_ready(), *stack.listeners()]:
            if item.user is not None:
                item.user.on_ready()
