"""The socket interface on the core itself, in virtual time: no thread, no descriptor, nobody waits.

Each call does what Linux does, with its errnos. One that has to wait is a generator: it yields the time at which it
wants to look again at the latest (``NEVER``: when something happened), and returns its value in the end. The program's
roads to a connection are ``usertcp.blocking``, ``aio`` and ``socket``; this one is for scripts, which see TCP alone:
nothing lies between a call and the connection, so that windows and reads are exactly those that a script sees.
"""

import errno
import os
import select
import socket as so
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

from usertcp.driver import options
from usertcp.driver.base import UNFINISHED
from usertcp.driver.options import Options
from usertcp.errors import os_error
from usertcp.net.flow import Binding
from usertcp.net.stack import Stack
from usertcp.pkt.names import SIOCATMARK, SIOCINQ, SIOCOUTQ, SIOCOUTQNSD
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.tcp.state import CONNECTED, EOF, FAILED, GONE, State
from usertcp.units import MS, NEVER, SEC

Address = tuple[str, int]
Waiting = Generator[int, None, Any]

_OPENING: Final = (State.SYN_SENT, State.SYN_RECEIVED)
_IN: Final = select.POLLIN | select.POLLRDNORM
_OUT: Final = select.POLLOUT | select.POLLWRNORM
_ALWAYS: Final = select.POLLERR | select.POLLHUP


class Socket:
    """One socket: fresh, or with a binding, a listener or a connection.

    ``flags``      O_RDWR, with O_NONBLOCK or without
    ``announced``  the program knows that its connection is established
    ``oob_read``   the urgent byte that was read out of band, by its number in the stream; -1: none
    """

    __slots__ = ("announced", "binding", "chosen", "conn", "flags", "listener", "oob_read")

    def __init__(self, flags: int, chosen: Options, conn: Connection | None = None) -> None:
        self.flags = flags
        self.chosen = chosen
        self.conn = conn
        self.binding: Binding | None = None
        self.listener: Listener | None = None
        self.announced = conn is not None
        self.oob_read = -1

    def must_wait(self, flags: int = 0) -> None:
        """EAGAIN instead, if the program does not want to."""
        if self.flags & os.O_NONBLOCK or flags & so.MSG_DONTWAIT:
            raise os_error(errno.EAGAIN)


class CoreSockets:
    """The calls of :class:`usertcp.pkt.calls.Sockets` on ``stack``; ``now`` tells the time."""

    def __init__(self, stack: Stack, now: Callable[[], int]) -> None:
        self.stack = stack
        self.now = now

    # -- set-up --------------------------------------------------------------------------------------------------------

    def socket(self, family: int, kind: int, proto: int) -> Socket:
        if family != so.AF_INET:
            raise os_error(errno.EAFNOSUPPORT)
        if kind & ~(so.SOCK_NONBLOCK | so.SOCK_CLOEXEC) != so.SOCK_STREAM or proto not in (0, so.IPPROTO_TCP):
            raise os_error(errno.EPROTONOSUPPORT)
        return Socket(_file_flags(kind), Options())

    def bind(self, sock: Socket, address: Address) -> None:
        if sock.binding is not None or sock.listener is not None or sock.conn is not None:
            raise os_error(errno.EINVAL)
        chosen = sock.chosen
        sock.binding = self.stack.bind(
            address,
            reuse_address=chosen.flag(options.SO_REUSEADDR),
            reuse_port=chosen.flag(options.SO_REUSEPORT),
        )

    def listen(self, sock: Socket, backlog: int) -> None:
        if sock.conn is not None:
            raise os_error(errno.EINVAL)
        if sock.listener is not None:
            sock.listener.backlog = max(backlog, 0)
            return
        local: Binding | Address = sock.binding if sock.binding is not None else ("0.0.0.0", 0)
        sock.listener = self.stack.listen(local, backlog, sock.chosen.config(self.stack.config.tcp))

    def accept(self, sock: Socket, flags: int) -> Waiting:
        while True:
            if sock.listener is None or sock.listener.closed:
                raise os_error(errno.EINVAL)
            conn = sock.listener.accept()
            if conn is not None:
                return Socket(_file_flags(flags), sock.chosen.copy(), conn)
            sock.must_wait()
            yield NEVER

    def connect(self, sock: Socket, address: Address) -> Waiting:
        if sock.listener is not None:
            raise os_error(errno.EISCONN)
        conn = sock.conn
        if conn is None:
            sock.conn = conn = self.stack.connect(
                address, self.now(), sock.binding, sock.chosen.config(self.stack.config.tcp)
            )
            sock.binding = None
            if sock.flags & os.O_NONBLOCK:
                raise os_error(errno.EINPROGRESS)
        elif sock.announced:
            raise os_error(errno.EISCONN)
        while conn.state in _OPENING and not conn.ready & (CONNECTED | FAILED | GONE):
            if sock.flags & os.O_NONBLOCK:
                raise os_error(errno.EALREADY)
            yield NEVER
        if not conn.ready & CONNECTED:
            error = conn.take_error()
            sock.conn = None
            raise error if error is not None else os_error(errno.ECONNABORTED)
        sock.announced = True
        return None

    # -- data ----------------------------------------------------------------------------------------------------------

    def send(self, sock: Socket, data: bytes, flags: int) -> Waiting:
        conn = sock.conn
        if conn is None:
            raise os_error(errno.EPIPE)
        done = 0
        while conn.state in _OPENING and not conn.ready & (CONNECTED | FAILED):
            sock.must_wait(flags)
            yield NEVER
        while True:
            try:
                done += self._put(conn, data[done:], urgent=bool(flags & so.MSG_OOB))
                if done == len(data):
                    return done
                sock.must_wait(flags)
            except OSError:
                if done:
                    return done
                raise
            yield NEVER

    def _put(self, conn: Connection, data: bytes, *, urgent: bool) -> int:
        """As much of ``data`` as there is room for."""
        try:
            return conn.write(data, urgent=urgent)
        except BlockingIOError:
            return 0

    def recv(self, sock: Socket, size: int, flags: int) -> Waiting:
        conn = sock.conn
        if conn is None:
            raise os_error(errno.ENOTCONN)
        if flags & so.MSG_OOB:
            return self._recv_urgent(sock, conn, flags)
        taken = b""
        while True:
            if conn.state in _OPENING and not conn.ready & (CONNECTED | FAILED | GONE):
                sock.must_wait(flags)
                yield NEVER
                continue
            taken += self._take(sock, conn, size - len(taken), flags)
            whole = flags & so.MSG_WAITALL and not flags & so.MSG_PEEK
            if len(taken) == size or (taken and not whole):
                return taken
            try:
                if not conn.readable:
                    return taken + conn.read(1)  # nothing: the end, or why not
            except BlockingIOError:
                pass
            except OSError:
                if taken:
                    return taken
                raise
            sock.must_wait(flags)
            yield NEVER

    def _take(self, sock: Socket, conn: Connection, size: int, flags: int) -> bytes:
        """What is there, up to the urgent byte, which is stepped over unless it is to be in line."""
        mark = conn.urgent_mark
        if mark is not None and mark > 1:
            size = min(size, mark - 1)
        elif mark == 1 and conn.readable and not sock.chosen.flag(options.SO_OOBINLINE):
            if flags & so.MSG_PEEK:
                return b"".join(conn.peek(min(size + 1, conn.readable)))[1:]
            conn.consume(1)
        size = min(size, conn.readable)
        if flags & so.MSG_PEEK:
            return b"".join(conn.peek(size))
        return conn.read(size) if size else b""

    def _recv_urgent(self, sock: Socket, conn: Connection, flags: int) -> bytes:
        """The urgent byte, once; EINVAL if there is none."""
        mark = conn.urgent_mark
        if mark is None or sock.chosen.flag(options.SO_OOBINLINE) or sock.oob_read == conn.rcv.up:
            raise os_error(errno.EINVAL)
        if conn.readable < mark:
            raise os_error(errno.EAGAIN)
        if not flags & so.MSG_PEEK:
            sock.oob_read = conn.rcv.up
        return b"".join(conn.peek(mark))[-1:]

    # -- the end -------------------------------------------------------------------------------------------------------

    def shutdown(self, sock: Socket, how: int) -> None:
        if how not in (so.SHUT_RD, so.SHUT_WR, so.SHUT_RDWR):
            raise os_error(errno.EINVAL)
        if sock.listener is not None and how != so.SHUT_WR:
            sock.listener.close()
            return
        conn = sock.conn
        if conn is None or conn.state in (State.CLOSED, State.TIME_WAIT):  # Linux has no socket in TIME-WAIT
            raise os_error(errno.ENOTCONN)
        if how != so.SHUT_WR:
            conn.shutdown_read()
        if how != so.SHUT_RD:
            conn.shutdown_write()

    def close(self, sock: Socket) -> Waiting:
        conn = sock.conn
        if sock.listener is not None:
            sock.listener.close()
        if sock.binding is not None:
            sock.binding.close()
        if conn is None:
            return None
        on, seconds = sock.chosen.linger
        if on and not seconds:
            conn.abort()
            return None
        conn.close()
        deadline = self.now() + seconds * SEC
        while on and not sock.flags & os.O_NONBLOCK and conn.state in UNFINISHED and self.now() < deadline:
            yield deadline
        return None

    # -- options and questions -----------------------------------------------------------------------------------------

    def setsockopt(self, sock: Socket, level: int, name: int, value: bytes) -> None:
        conn = sock.conn
        if conn is not None and (level, name) == options.TCP_WINDOW_CLAMP and not any(value):
            raise os_error(errno.EINVAL)
        changes = sock.chosen.set(level, name, value)
        if conn is not None and changes:
            conn.configure(**changes)
        elif sock.listener is not None:
            sock.listener.config = sock.chosen.config(self.stack.config.tcp)

    def getsockopt(self, sock: Socket, level: int, name: int, size: int) -> bytes:
        conn, key = sock.conn, (level, name)
        if level == so.SOL_SOCKET and name in (so.SO_ERROR, so.SO_TYPE, so.SO_ACCEPTCONN):
            error = conn.take_error() if conn is not None and name == so.SO_ERROR else None
            told = {so.SO_TYPE: int(so.SOCK_STREAM), so.SO_ACCEPTCONN: int(sock.listener is not None)}
            return options.INT.pack((error.errno or 0) if error is not None else told.get(name, 0))[:size]
        listening = sock.listener is not None
        return options.tell(sock.chosen, key, conn, self.stack.config.tcp, self.now(), listening=listening)[:size]

    def get_flags(self, sock: Socket) -> int:
        return sock.flags

    def set_flags(self, sock: Socket, flags: int) -> None:
        sock.flags = os.O_RDWR | flags & os.O_NONBLOCK

    def poll(self, wanted: Sequence[tuple[Socket, int]], timeout: int) -> Waiting:
        deadline = NEVER if timeout < 0 else self.now() + timeout * MS
        while True:
            found = [self._events(sock) & (events | _ALWAYS) for sock, events in wanted]
            if any(found) or self.now() >= deadline:
                return found
            yield deadline

    def _events(self, sock: Socket) -> int:
        """What poll(2) says of a socket (Linux: tcp_poll)."""
        if sock.listener is not None:
            return _IN if sock.listener.queue else 0
        conn = sock.conn
        if conn is None:
            return _OUT | select.POLLHUP
        found = select.POLLERR if conn.error is not None else 0
        if conn.state in _OPENING:
            return found
        ended, shut = conn.read_shut or bool(conn.ready & (EOF | GONE)), conn.snd.fin_queued or bool(conn.ready & GONE)
        if conn.state is State.CLOSED or (ended and shut):
            found |= select.POLLHUP
        if ended:
            found |= _IN | select.POLLRDHUP
        mark = conn.urgent_mark
        if conn.readable > (mark == 1 and not sock.chosen.flag(options.SO_OOBINLINE)):
            found |= _IN
        if shut or conn.writable:
            found |= _OUT
        if mark is not None and conn.readable >= mark:
            found |= select.POLLPRI
        return found

    def ask(self, sock: Socket, request: int) -> int:
        conn = sock.conn
        if sock.listener is not None:
            raise os_error(errno.EINVAL)
        if conn is None:
            return 0
        snd, mark = conn.snd, conn.urgent_mark
        if request == SIOCINQ:
            inline = mark is None or sock.chosen.flag(options.SO_OOBINLINE)
            return conn.readable if inline or mark is None else min(conn.readable, mark - 1) or conn.readable - 1
        if request == SIOCATMARK:
            return int(mark == 1)
        assert request in (SIOCOUTQ, SIOCOUTQNSD)
        unsent = max(snd.unsent, 0)
        return unsent if request == SIOCOUTQNSD else unsent + snd.outstanding


def _file_flags(kind: int) -> int:
    return os.O_RDWR | (os.O_NONBLOCK if kind & so.SOCK_NONBLOCK else 0)
