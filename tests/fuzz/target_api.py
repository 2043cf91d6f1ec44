"""The fuzz target ``api``: programs that use ``usertcp.socket`` in every order, right or wrong.

Each record is a call on one of a few sockets: set-up, data with every flag, urgent bytes, options with odd values,
duplicates, timeouts, linger, the end; or time passes. The sockets of one engine reach each other over its addresses,
and there is somebody who never answers. Time is virtual (:mod:`tests.fuzz.turned`).

What has to hold: a call gives a value or raises an ``OSError`` with an errno that Linux gives for it; a stream is what
was written to it, in order, whole if its end is read; a descriptor that polls readable does not say EAGAIN; nobody
waits for ever; and when everything is closed, the stack has no connection, no port and no memory left, and the
process no descriptor.
"""

import errno
import os
import random
import select
import socket as kernel
import struct
from collections.abc import Callable
from typing import Any, Final

import usertcp.socket as us
from tests.fuzz.feed import Feed, records
from tests.fuzz.turned import Turned, turned
from usertcp.tcp.config import TcpConfig
from usertcp.units import MS, SEC

STEPS: Final = 64
SLOTS: Final = 6
MOST: Final = 1 << 18  # bytes that one stream carries
TEXT: Final = random.Random(7).randbytes(MOST + 8192)
ADDRESSES: Final = ("127.0.0.1", "10.9.0.2", "0.0.0.0", "10.9.0.77", "192.0.2.1", "255.255.255.255", "127.0.0.9")
PORTS: Final = (0, 80, 81, 1024, 65535, 7)
SIZES: Final = (0, 1, 10, 500, 4096, 20_000, 70_000, 150_000)
TIMEOUTS: Final = (None, 0.0, 0.5, 30.0)
WAITS: Final = (0, 1 * MS, 50 * MS, SEC, 10 * SEC, 70 * SEC)
RECV_FLAGS: Final = (
    0,
    0,
    0,
    kernel.MSG_PEEK,
    kernel.MSG_DONTWAIT,
    kernel.MSG_WAITALL,
    kernel.MSG_OOB,
    kernel.MSG_ERRQUEUE,
)
SEND_FLAGS: Final = (0, 0, kernel.MSG_DONTWAIT, kernel.MSG_NOSIGNAL, kernel.MSG_MORE)
VALUES: Final = (0, 1, -1, 2, 5, 255, 256, 1000, 65535, 65536, 1 << 20, (1 << 31) - 1, -(1 << 31), (1 << 32) - 1)
NAMES: Final = tuple(
    [(kernel.SOL_SOCKET, number) for number in (2, 3, 4, 6, 7, 8, 9, 10, 13, 15, 18, 19, 20, 21, 30, 38, 39, 1000)]
    + [(kernel.IPPROTO_TCP, number) for number in range(1, 27)]
    + [(kernel.IPPROTO_IP, number) for number in (1, 2, 3, 8)]
    + [(kernel.IPPROTO_IPV6, number) for number in (16, 26, 67)]
    + [(99, 1)]
)

# What Linux says (tcp(7), ip(7), socket(7) and the calls' own pages).
USUAL: Final = {errno.EBADF, errno.EINVAL, errno.EOPNOTSUPP}
DEAD: Final = {
    errno.ECONNRESET,
    errno.EPIPE,
    errno.ETIMEDOUT,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ECONNREFUSED,
}
MAY: Final[dict[str, set[int]]] = {
    "bind": USUAL | {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES},
    "listen": USUAL | {errno.EADDRINUSE},
    "connect": USUAL
    | DEAD
    | {errno.EINPROGRESS, errno.EALREADY, errno.EISCONN, errno.EADDRNOTAVAIL, errno.EADDRINUSE, errno.ECONNABORTED}
    | {errno.EACCES},
    "accept": USUAL | {errno.EAGAIN, errno.ECONNABORTED},
    "send": USUAL | DEAD | {errno.EAGAIN, errno.ENOTCONN, errno.EISCONN, errno.ENOBUFS, errno.ECONNABORTED},
    "recv": USUAL | DEAD | {errno.EAGAIN, errno.ENOTCONN, errno.ECONNABORTED},
    "shutdown": USUAL | {errno.ENOTCONN},
    "close": {errno.EBADF, errno.ECONNRESET},
    "setsockopt": USUAL
    | {errno.ENOPROTOOPT, errno.ENOENT, errno.EDOM, errno.EPERM, errno.EADDRINUSE, errno.EISCONN, errno.ENOTCONN},
    "getsockopt": USUAL | {errno.ENOPROTOOPT},
    "names": USUAL | {errno.ENOTCONN},
    "dup": {errno.EBADF},
}


class Stream:
    """One direction of a connection. ``sure``: what is read must be what was written."""

    def __init__(self) -> None:
        self.said = 0
        self.heard = 0
        self.sure = True

    def hear(self, data: bytes, *, keep: bool) -> None:
        if not self.sure:
            return
        assert TEXT[self.heard : self.heard + len(data)] == data, f"other bytes than written, from {self.heard} on"
        assert self.heard + len(data) <= self.said, "more than was written"
        if not keep:
            self.heard += len(data)


class Party:
    """A socket, whatever the number of its objects: what it sends and what it hears."""

    def __init__(self) -> None:
        self.out: Stream | None = None
        self.into: Stream | None = None
        self.name: Any = None  # that it connected with
        self.urgent = False
        self.inline = False


class Program:
    """One input, as it happens."""

    def __init__(self, engine: Turned) -> None:
        self.engine = engine
        self.slots: list[tuple[us.socket, Party] | None] = [None] * SLOTS
        self.opened: dict[Any, Party] = {}  # who connected, by address

    def attempt(self, name: str, call: Callable[..., Any], *words: Any) -> tuple[bool, Any]:
        """(True, what it gave) or (False, the errno that it may raise)."""
        try:
            return True, call(*words)
        except TimeoutError as error:
            assert error.errno in (None, errno.ETIMEDOUT), error
            return False, errno.ETIMEDOUT
        except OSError as error:
            assert error.errno in MAY[name], f"{name}{words!r} raised {error!r}"
            return False, error.errno

    def _own(self, feed: Feed) -> tuple[us.socket, Party]:
        """A socket: what the slot has, or a new one."""
        at = feed.byte() % SLOTS
        found = self.slots[at]
        if found is None:
            found = self.slots[at] = (us.socket(kernel.AF_INET), Party())
        return found

    # --- set-up -------------------------------------------------------------------------------------------------------

    def make(self, feed: Feed) -> None:
        at, which = feed.byte() % SLOTS, feed.byte()
        self._let_go(at)
        family = kernel.AF_INET6 if which & 7 == 7 else kernel.AF_INET
        flags = kernel.SOCK_NONBLOCK if which & 8 else 0
        self.slots[at] = (us.socket(family, kernel.SOCK_STREAM | flags), Party())

    def _address(self, sock: us.socket, feed: Feed) -> tuple[Any, ...]:
        host, port = feed.choice(ADDRESSES), feed.choice(PORTS)
        if sock.family == kernel.AF_INET6:
            return ("::1" if host.startswith("127") else f"::ffff:{host}", port)
        return host, port

    def bind(self, feed: Feed) -> None:
        sock, _ = self._own(feed)
        self.attempt("bind", sock.bind, self._address(sock, feed))

    def listen(self, feed: Feed) -> None:
        sock, _ = self._own(feed)
        self.attempt("listen", sock.listen, (feed.byte() % 4) - 1)

    def serve(self, feed: Feed) -> None:
        """Bound and listening in one, since so much follows from it."""
        sock, _ = self._own(feed)
        address = ("::", 80) if sock.family == kernel.AF_INET6 else ("0.0.0.0", feed.choice(PORTS))
        if self.attempt("bind", sock.bind, address)[0]:
            self.attempt("listen", sock.listen, feed.byte() % 4)

    def connect(self, feed: Feed) -> None:
        sock, party = self._own(feed)
        address = self._address(sock, feed)
        sock.settimeout(feed.choice(TIMEOUTS))
        if feed.flag():
            number = sock.connect_ex(address)
            assert number in MAY["connect"] | {0, errno.EAGAIN}, errno.errorcode.get(number, number)
            done = number == 0
        else:
            done, number = self.attempt("connect", sock.connect, address)
        if done or number == errno.EINPROGRESS:
            found, name = self.attempt("names", sock.getsockname)
            if number == errno.EINPROGRESS or name != party.name:  # else what was in progress is done
                party.out, party.into, party.name = Stream(), Stream(), name
                party.urgent = False
                if found:
                    self.opened[_plain(name)] = party
        sock.settimeout(0)

    def accept(self, feed: Feed) -> None:
        sock, listening = self._own(feed)
        at = feed.byte() % SLOTS
        sock.settimeout(0)
        self._wait(sock, select.POLLIN, feed)
        done, got = self.attempt("accept", sock.accept)
        if not done:
            return
        conn, name = got
        mate = self.opened.pop(_plain(name), None)
        party = Party()
        party.inline = listening.inline
        if mate is not None:
            party.out, party.into = mate.into, mate.out
        conn.settimeout(0)
        self._let_go(at)
        self.slots[at] = (conn, party)

    # --- data ---------------------------------------------------------------------------------------------------------

    def _wait(self, sock: us.socket, events: int, feed: Feed) -> None:
        """As who blocks with a timeout: until the descriptor is ready, or some virtual time is over."""
        end = self.engine.now + feed.choice(WAITS[:5])
        while not _polled(sock, events):
            self.engine.settle()
            if _polled(sock, events) or self.engine.now >= end:
                return
            self.engine.run(min(max(self.engine.due(), 1), end - self.engine.now))

    def send(self, feed: Feed) -> None:
        sock, party = self._own(feed)
        size, flags, how = feed.choice(SIZES), feed.choice(SEND_FLAGS), feed.byte() % 5
        sock.settimeout(0)
        out = party.out
        start = out.said if out is not None else 0
        data = TEXT[start : start + min(size, MOST - start)]
        half = len(data) // 2
        calls: tuple[tuple[Callable[..., Any], tuple[Any, ...]], ...] = (
            (sock.send, (data, flags)),
            (sock.send, (memoryview(data), flags)),
            (sock.sendmsg, ([data[:half], data[half:]], [], flags)),
            (sock.sendto, (data, flags, ("127.0.0.1", 9))),
            (sock.send, (bytearray(data),)),
        )
        if sock.family == kernel.AF_INET6 and how == 3:
            how = 0
        done, count = self.attempt("send", calls[how][0], *calls[how][1])
        if done:
            assert count <= len(data)
            assert count > 0 or not data
            if out is not None:
                out.said += count

    def urgent(self, feed: Feed) -> None:
        sock, party = self._own(feed)
        sock.settimeout(0)
        if party.out is not None:
            party.out.sure = False
        self.attempt("send", sock.send, b"!" * (1 + feed.byte() % 3), kernel.MSG_OOB)

    def recv(self, feed: Feed) -> None:
        sock, party = self._own(feed)
        size, flags, how = feed.choice(SIZES), feed.choice(RECV_FLAGS), feed.byte() % 5
        sock.settimeout(0)
        self._wait(sock, select.POLLIN, feed)
        ready = _polled(sock, select.POLLIN) & select.POLLIN
        buffer = bytearray(size)
        calls: tuple[tuple[Callable[..., Any], tuple[Any, ...]], ...] = (
            (sock.recv, (size, flags)),
            (sock.recv_into, (buffer, 0, flags)),
            (sock.recvmsg, (size, 0, flags)),
            (sock.recvfrom, (size, flags)),
            (sock.recvmsg_into, ([memoryview(buffer)[: size // 2], memoryview(buffer)[size // 2 :]], 0, flags)),
        )
        done, got = self.attempt("recv", calls[how][0], *calls[how][1])
        if not done:
            plain = not flags & (kernel.MSG_OOB | kernel.MSG_ERRQUEUE)
            sure = party.into is not None and party.into.sure
            assert got != errno.EAGAIN or not (ready and plain and sure), "it polled readable, and says EAGAIN"
            return
        got = got[0] if isinstance(got, tuple) else got
        data = bytes(buffer[:got]) if isinstance(got, int) else got
        if flags & kernel.MSG_OOB or party.into is None:
            return
        party.into.hear(data, keep=bool(flags & kernel.MSG_PEEK))

    # --- the rest -----------------------------------------------------------------------------------------------------

    def shutdown(self, feed: Feed) -> None:
        sock, party = self._own(feed)
        how = feed.choice((kernel.SHUT_WR, kernel.SHUT_RD, kernel.SHUT_RDWR, 7))
        done, _ = self.attempt("shutdown", sock.shutdown, how)
        if done and how != kernel.SHUT_WR and party.into is not None:
            party.into.sure = False  # what comes after is thrown away

    def close(self, feed: Feed) -> None:
        self._let_go(feed.byte() % SLOTS)

    def _let_go(self, at: int) -> None:
        found, self.slots[at] = self.slots[at], None
        if found is not None:
            self.attempt("close", found[0].close)

    def set_option(self, feed: Feed) -> None:
        sock, party = self._own(feed)
        level, name = feed.choice(NAMES)
        what = feed.byte()
        value: Any = feed.choice(VALUES)
        if what & 3 == 3:
            value = feed.take(feed.byte() % 12)
        elif what & 3 == 2:
            value = struct.pack("=ii", feed.byte() & 1, feed.signed() % 40)
        elif what & 7 == 5:
            value = b"reno\0cubic\0bbr"[: 4 + feed.byte() % 10]
        if (level, name) in ((kernel.SOL_SOCKET, 20), (kernel.SOL_SOCKET, 21)):
            return  # SO_RCVTIMEO and SO_SNDTIMEO: the kernel's own, on the real descriptor
        try:
            self.attempt("setsockopt", sock.setsockopt, level, name, value)
        except (OverflowError, TypeError):  # the latter is what the standard class says of a number that is too large
            assert isinstance(value, int)
            assert not -(1 << 31) <= value < 1 << 31
        party.inline = party.inline or (level, name) == (kernel.SOL_SOCKET, kernel.SO_OOBINLINE)

    def get_option(self, feed: Feed) -> None:
        sock, _ = self._own(feed)
        level, name = feed.choice(NAMES)
        size = feed.choice((0, 4, 1, 8, 300, 3))
        self.attempt("getsockopt", sock.getsockopt, level, name, size)

    def linger(self, feed: Feed) -> None:
        sock, _ = self._own(feed)
        value = struct.pack("=ii", feed.byte() & 1, feed.choice((0, 0, 1, 5, -1)))
        self.attempt("setsockopt", sock.setsockopt, kernel.SOL_SOCKET, kernel.SO_LINGER, value)

    def names(self, feed: Feed) -> None:
        sock, _ = self._own(feed)
        self.attempt("names", sock.getsockname)
        self.attempt("names", sock.getpeername)

    def duplicate(self, feed: Feed) -> None:
        sock, party = self._own(feed)
        at, how = feed.byte() % SLOTS, feed.byte() & 3
        if self.slots[at] is not None and self.slots[at][0] is sock:  # type: ignore[index]
            return
        self._let_go(at)
        if how == 0:
            self.slots[at] = (us.socket(fileno=os.dup(sock.fileno())), party)
        elif how == 1:
            self.slots = [None if entry is not None and entry[0] is sock else entry for entry in self.slots]
            self.slots[at] = (us.socket(fileno=sock.detach()), party)
        else:
            self.slots[at] = (sock.dup(), party)

    def poll(self, feed: Feed) -> None:
        sock, _ = self._own(feed)
        self._wait(sock, feed.choice((select.POLLIN, select.POLLOUT)), feed)
        self.attempt("getsockopt", sock.getsockopt, kernel.SOL_SOCKET, kernel.SO_ERROR)

    def wait(self, feed: Feed) -> None:
        self.engine.run(feed.choice(WAITS))

    def settle(self, feed: Feed) -> None:
        self.engine.settle()

    # --- the end ------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Everything is closed: nothing is left."""
        for at in range(SLOTS):
            self._let_go(at)
        engine, stack = self.engine, self.engine.stack
        for _ in range(400):
            engine.run(SEC)
            if not list(stack.connections()) and not engine.broker.table:
                break
        assert not engine.broker.table, engine.broker.table
        assert not list(stack.connections()), list(stack.connections())
        assert not list(stack.listeners())
        assert not stack._ports._bound, "a port is still held"
        assert not engine.broker.arrivals
        assert stack.memory.used == 0, f"{stack.memory.used} bytes are still charged"


def _plain(name: tuple[Any, ...]) -> tuple[str, int]:
    """The address and port of ``name``, of which an IPv6 socket has another form than its peer may have."""
    return name[0].removeprefix("::ffff:"), name[1]


def _polled(sock: us.socket, events: int) -> int:
    poll = select.poll()
    if sock.fileno() < 0:
        return events
    poll.register(sock, events)
    found = poll.poll(0)
    return found[0][1] if found else 0


KINDS: Final[tuple[Callable[[Program, Feed], None], ...]] = (
    Program.serve,
    Program.connect,
    Program.accept,
    Program.send,
    Program.recv,
    Program.shutdown,
    Program.close,
    Program.settle,
    Program.wait,
    Program.set_option,
    Program.get_option,
    Program.linger,
    Program.names,
    Program.duplicate,
    Program.poll,
    Program.urgent,
    Program.make,
    Program.bind,
    Program.listen,
    Program.connect,
    Program.accept,
    Program.send,
    Program.recv,
    Program.send,
)


def run(data: bytes) -> None:
    """One input, to its end."""
    with turned(TcpConfig(msl=1 * SEC)) as (engine, _):
        program = Program(engine)
        for feed in records(data, STEPS):
            KINDS[feed.byte() % len(KINDS)](program, feed)
        program.finish()
