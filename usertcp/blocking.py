"""Sockets that block, without a thread hop: whoever waits turns the crank.

    with usertcp.blocking.open(tap="tap0", address="10.9.0.2/24") as host:
        with host.connect(("10.9.0.1", 80)) as conn:
            conn.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            print(conn.recv(65536))

A thread that must wait runs the stack itself meanwhile; when several wait, one does for all; when nobody does, a
background thread looks in (:mod:`usertcp.driver.leading`).

Errors are the builtin OSError kinds, time-outs TimeoutError. Not here: select() over these connections (see ``aio`` and
``socket``), and any use in a child after fork(), where a host is closed and says EBADF; the parent's goes on.
"""

import atexit
import errno
import threading
import time
from collections.abc import Callable, Iterator
from socket import SHUT_RD, SHUT_RDWR, SHUT_WR
from typing import Any, Final

from usertcp.driver.base import PLENTY
from usertcp.driver.file import buffered
from usertcp.driver.leading import Attended, Watch
from usertcp.driver.open import OpenStack, open_stack, resolve
from usertcp.driver.origin import Loose, described, here, warn_unclosed
from usertcp.errors import os_error
from usertcp.link.base import Link
from usertcp.net.stack import Stack
from usertcp.tcp.buffers import SMALL
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.info import TcpInfo
from usertcp.tcp.listener import Listener as CoreListener
from usertcp.tcp.state import CAN_SEND, CONNECTED, EOF, FAILED, GONE, State
from usertcp.tcp.trace import Tracer
from usertcp.units import NEVER

LINGER: Final = 5.0  # seconds that a closing host waits for acknowledgments
CHUNK: Final = 64 << 10  # bytes; what ``recv`` takes when it is not told

_OPENED: Final = CONNECTED | FAILED | GONE  # connect has an answer
_ENDED: Final = EOF | FAILED | GONE  # there is something to be told to who reads

Address = tuple[str, int]
Buffer = bytes | bytearray | memoryview


def open(
    *,
    tcp: TcpConfig | None = None,
    tracer: Tracer | None = None,
    linger: float = LINGER,
    busy_poll: int = 0,
    **link: Any,
) -> "Host":
    """A stack on a device, as a context manager; ``link`` takes the words of :class:`usertcp.driver.open.LinkSpec`,
    ``linger`` and ``busy_poll`` are those of :class:`Host`.

    Without any, the stack gets a network namespace and a TAP device of its own, which are removed with it.
    """
    opened = open_stack(tcp=tcp, tracer=tracer, **link)
    try:
        return Host(opened.stack, opened.link, linger=linger, busy_poll=busy_poll, opened=opened)
    except BaseException:
        opened.close()
        raise


class Host(Attended):
    """A stack with somebody to run it. Made by :func:`open`, or over any stack and link. Safe for several threads.

    ``linger``     seconds that ``close`` waits for the peers to acknowledge what was sent
    ``busy_poll``  microseconds that a waiting thread looks at the device again and again before it sleeps, so that
                   nobody has to wake it (as Linux's net.core.busy_read); 0: never
    """

    def __init__(
        self,
        stack: Stack,
        link: Link,
        *,
        linger: float = LINGER,
        busy_poll: int = 0,
        opened: OpenStack | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        super().__init__(stack, link, clock, busy_poll)
        self.linger = linger
        self.opened = opened
        self._release: Callable[[], None] = link.close if opened is None else opened.close
        self._control = None if opened is None else opened.serve_control(self._engine, self.snapshot_unlocked)
        self._keeper.start()
        atexit.register(self.close)

    # -- for users -----------------------------------------------------------------------------------------------------

    def connect(
        self,
        remote: Address,
        *,
        timeout: float | None = None,
        local: Address | None = None,
        config: TcpConfig | None = None,
    ) -> "Conn":
        """An active open to ``remote`` (a name or an address, and a port), done when the handshake is.

        The kinds of OSError that Linux gives; TimeoutError after ``timeout`` seconds, or when the stack gives up.
        """
        deadline = self._deadline(timeout)
        there = (resolve(remote[0]), remote[1])
        with self._lock:
            self._check_open()
            core = self.stack.connect(there, self._clock(), local, config)
            conn = Conn(self, core)
            try:
                self._flush(core)
                caught = self._pump.catch(core, _OPENED, company=not self._leading)
                if self._sleeps_until:  # what was read may be due before the leader wakes
                    self._flush()
                if not caught and not self._wait(conn, conn._opened, deadline):
                    raise TimeoutError(errno.ETIMEDOUT, f"no answer from {remote[0]} port {remote[1]} in {timeout} s")
                error = core.take_error()
                if error is not None:
                    raise error
                if not core.ready & CONNECTED:
                    self._check_open()
                    raise os_error(errno.ECONNABORTED)
            except BaseException:
                conn._closed = True
                core.abort()
                self._flush()
                raise
        return conn

    def listen(self, local: Address, *, backlog: int = 128, config: TcpConfig | None = None) -> "Listener":
        """A passive open on ``local``; the address "" or "0.0.0.0" means all of the host's, port 0 a free one."""
        with self._lock:
            self._check_open()
            return Listener(self, self.stack.listen((local[0] or "0.0.0.0", local[1]), backlog, config))

    def ping(self, remote: str, *, size: int = 56, ttl: int = 64, timeout: float = 1.0) -> Any:
        """One echo request; the reply (net's ``PingReply``). TimeoutError when none comes in ``timeout`` seconds."""
        there, deadline = resolve(remote), self._deadline(timeout)
        with self._lock:
            self._check_open()
            pinger = self.stack.pinger(there, ttl=ttl)
            watch = Watch(self)
            pinger.user = watch
            try:
                pinger.send(self._clock(), size)
                self._flush()
                if not pinger.replies and not self._wait(watch, lambda: bool(pinger.replies), deadline):
                    raise TimeoutError(errno.ETIMEDOUT, f"no reply from {remote} in {timeout} s")
                return pinger.replies.popleft()
            finally:
                pinger.close()

    def snapshot(self) -> Any:
        """The connections and listeners, as ``usertcp ss`` shows them."""
        with self._lock:
            return self.snapshot_unlocked()

    def snapshot_unlocked(self) -> Any:
        """The same for who holds the lock already: the control socket, which is served within a turn."""
        return self.stack.snapshot(self._clock())

    def close(self) -> None:
        """Close everything, wait (bounded by ``linger``) for the acknowledgments, and let the device go.

        Whoever waits in another thread is woken with EBADF. Closing twice is harmless.
        """
        try:
            with self._lock:
                if not self._closed:
                    self._end()
        finally:
            if self._closed and threading.current_thread() is not self._keeper:
                self._keeper.join()
            atexit.unregister(self.close)

    def _end(self) -> None:
        """``close``, under the lock."""
        try:
            self._finish(self.linger)
        finally:
            if self._control is not None:
                self._control.close()
            self._engine.close()
            self._release()


class _Endpoint(Watch):
    """What a connection and a listener have in common."""

    __slots__ = ("_timeout", "core")
    core: Any

    def __init__(self, host: Attended) -> None:
        super().__init__(host)
        self._timeout: float | None = None

    def settimeout(self, timeout: float | None) -> None:
        """Seconds after which a call gives up with TimeoutError; None: never; 0: BlockingIOError instead of waiting."""
        if timeout is not None and timeout < 0:
            raise ValueError("a timeout is not negative")
        self._timeout = timeout

    def gettimeout(self) -> float | None:
        """What ``settimeout`` set."""
        return self._timeout

    def getsockname(self) -> Address:
        """This end's address and port."""
        address: Address = self.core.flow.local
        return address

    def _check(self) -> None:
        if self._closed or self._host._closed:
            raise os_error(errno.EBADF)

    def _until(self, done: Callable[[], bool], deadline: int) -> None:
        """Wait; TimeoutError, or BlockingIOError when the timeout is 0."""
        if self._timeout == 0:
            raise os_error(errno.EAGAIN)
        if not self._host._wait(self, done, deadline):
            raise TimeoutError(errno.ETIMEDOUT, "timed out")
        self._check()

    def _end(self, how: Callable[[], object], conn: Connection | None = None) -> None:
        with self._host._lock:
            if self._closed or self._host._closed:
                return
            self._closed = True
            how()
            self._host._flush(conn)
            self.on_ready()
            self.core.user = None  # who points at each other waits for the garbage collector


class Conn(_Endpoint):
    """A connection. ``recv`` and ``send`` as a socket's; one thread may send while another receives."""

    __slots__ = ("__weakref__", "_bulk")
    core: Connection

    def __init__(self, host: Attended, core: Connection) -> None:
        super().__init__(host)
        self.core = core
        core.user = Loose(self)
        core.flow.opened_by = here()
        self._bulk = False  # what came last was much

    def __repr__(self) -> str:
        return f"<usertcp connection {described(self.core)}>"

    def __del__(self) -> None:
        if not (self._closed or self._host._closed):
            warn_unclosed(self)
            self._host._engine.post(self.core.close)  # not here: whoever let go of it may be in the middle of a turn

    def _expected(self) -> Connection:
        return self.core

    def _opened(self) -> bool:
        return self.core.ready & _OPENED != 0

    # -- receiving -----------------------------------------------------------------------------------------------------

    def recv(self, size: int = CHUNK) -> bytes:
        """At most ``size`` bytes, at least one; b"" at the end of the stream."""
        host, core = self._host, self.core
        deadline = NEVER if self._timeout is None else host._deadline(self._timeout)
        with host._lock:
            self._check()
            if size and not self._readable():
                self._until(self._readable, deadline)
            data = core.read(size)
            if data:
                host._flush()
            return data

    def recv_into(self, buffer: bytearray | memoryview, size: int = 0) -> int:
        """Fill ``buffer`` (at most ``size`` bytes of it, if given) with what is there; the count, 0 at the end. What
        those bytes of it hold that were not filled is undefined: the device writes there."""
        view = memoryview(buffer)
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        if view.readonly or not view.c_contiguous:
            raise TypeError("what is to be filled is memory in one piece that can be written to")
        if size:
            view = view[:size]
        host, core = self._host, self.core
        received = core.rcv.buffer
        with host._lock:
            self._check()
            if self._bulk and received.nxt == received.read_seq and not host._leading and (landed := self._gulp(view)):
                return landed
            deadline = NEVER if self._timeout is None else host._deadline(self._timeout)
            while not (self._readable() or not len(view)):
                if landed := self._land(view, deadline):
                    return landed
            taken = core.read_into(view)
            if 0 < taken < len(view) and (taken >= PLENTY or self._bulk) and not host._leading:
                taken += self._gulp(view[taken:])
            elif taken:
                host._flush()
            return taken

    def _gulp(self, view: memoryview) -> int:
        """Fill ``view`` with what the device has, where there is probably something; how much of it."""
        host = self._host
        host._stints += 1
        landed = host._pump.gulp(self.core, view)
        self._bulk = landed >= PLENTY
        return landed

    def _land(self, view: memoryview, deadline: int) -> int:
        """Offer ``view`` to what comes, and wait for that; how much of it was filled. 0: look at what is there."""
        host, core = self._host, self.core
        pump = host._pump
        if not pump.offer(core, view):  # another thread reads here, too
            self._until(self._readable, deadline)
            host._flush()
            return 0
        try:
            self._until(self._arrived, deadline)
        finally:
            landed = pump.take_back(core)
        self._bulk = landed >= PLENTY
        return landed

    def _readable(self) -> bool:
        core = self.core
        buffer = core.rcv.buffer
        return buffer.nxt != buffer.read_seq or core.ready & _ENDED != 0 or core.read_shut

    def _arrived(self) -> bool:
        """The same for who has offered memory."""
        return self.core.rcv.buffer.landed != 0 or self._readable()

    # -- sending -------------------------------------------------------------------------------------------------------

    def send(self, data: Buffer) -> int:
        """Hand in what fits the send buffer, at least one byte; how many bytes that were."""
        if not (len(data) if isinstance(data, bytes) else memoryview(data).nbytes):
            return 0
        host = self._host
        with host._lock:
            deadline = NEVER if self._timeout is None else host._deadline(self._timeout)
            return self._says(data) or self._send(data, deadline)

    def sendall(self, data: Buffer) -> None:
        """Hand in all of ``data``. After an error it is not known how much of it was."""
        host = self._host
        with host._lock:
            size = len(data) if isinstance(data, bytes) else memoryview(data).nbytes
            count = self._says(data)
            if count == size:
                return
            deadline = NEVER if self._timeout is None else host._deadline(self._timeout)
            if not count:
                count = self._send(data, deadline)
            if count < size:
                view = memoryview(data).cast("B")
                while count < size:
                    count += self._send(view[count:], deadline)

    def _says(self, data: Buffer) -> int:
        """Send ``data`` if that can be done in one step; its bytes, or 0."""
        host = self._host
        if self._closed or host._closed:
            raise os_error(errno.EBADF)
        pump = host._pump
        if len(data) > SMALL and not host._leading and pump.should_look(self.core):
            host._look()
        count = pump.say(self.core, data)
        if count:
            if host._sleeps_until or pump.blocked or host.stack.stirred:
                host._flush()
            else:
                host._stints += 1
        return count

    def _send(self, data: Buffer, deadline: int) -> int:
        core = self.core
        while True:
            self._check()
            count = core.put(data)
            if count:
                host = self._host
                if host._leading or not host._pump.should_look(core):
                    host._flush()
                else:
                    host._turn()
                return count
            self._until(self._writable, deadline)

    def _writable(self) -> bool:
        core = self.core
        return bool(core.writable or core.state not in CAN_SEND or core.ready & FAILED)

    # -- ending --------------------------------------------------------------------------------------------------------

    def shutdown(self, how: int = SHUT_WR) -> None:
        """Close one direction: SHUT_WR sends a FIN after what was handed in, SHUT_RD makes ``recv`` give b""."""
        if how not in (SHUT_RD, SHUT_WR, SHUT_RDWR):
            raise os_error(errno.EINVAL)
        with self._host._lock:
            self._check()
            if how in (SHUT_RD, SHUT_RDWR):
                self.core.shutdown_read()
            if how in (SHUT_WR, SHUT_RDWR):
                self.core.shutdown_write()
            self._host._flush(self.core)
            self.on_ready()

    def close(self) -> None:
        """Close both directions at once; the host delivers what was handed in. Unread data makes it a reset."""
        self._end(self.core.close, self.core)

    def abort(self) -> None:
        """Reset the connection; nothing more is delivered (RFC 9293 §3.10.5)."""
        self._end(self.core.abort)

    # -- looking and setting -------------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The connection's state."""
        return self.core.state

    def getpeername(self) -> Address:
        """The other end's address and port."""
        address: Address = self.core.flow.remote
        return address

    def info(self) -> TcpInfo:
        """What the stack knows about the connection."""
        with self._host._lock:
            return self.core.info(self._host._clock())

    def configure(self, **changes: Any) -> None:
        """Change fields of its :class:`TcpConfig` (``nodelay=True``, ``keepalive=True``…), at once."""
        with self._host._lock:
            self._check()
            self.core.configure(**changes)
            self._host._flush()

    def makefile(self, mode: str = "rb", buffering: int = CHUNK) -> Any:
        """A buffered binary file over the connection, as a socket's makefile: mode "rb", "wb" or "rwb".

        Closing it leaves the connection open.
        """
        return buffered(self, mode, buffering)


class Listener(_Endpoint):
    """Waits for peers. Iterate over it, or call ``accept``."""

    __slots__ = ()
    core: CoreListener

    def __init__(self, host: Attended, core: CoreListener) -> None:
        super().__init__(host)
        self.core = core
        core.user = self

    def _expected(self) -> CoreListener:
        return self.core

    def accept(self) -> Conn:
        """The next connection whose handshake is done."""
        host = self._host
        deadline = host._deadline(self._timeout)
        with host._lock:
            while True:
                self._check()
                core = self.core.accept()
                if core is not None:
                    conn = Conn(host, core)
                    host._flush()
                    return conn
                self._until(lambda: bool(self.core.queue), deadline)

    def __iter__(self) -> Iterator[Conn]:
        while not self._closed:
            yield self.accept()

    def close(self) -> None:
        """Stop listening and reset what was not accepted."""
        self._end(self.core.close)
