"""The fuzz target ``engine``: a program without rights that says to its engine whatever it likes.

The engine has let one user in, who is not the one that runs it; another it does not know. Each line of the input is a
letter and what belongs to it::

    c TEXT     a message on the control socket
    d TEXT     a connect request on one of our sockets, framed and padded;  r TEXT: the same bytes as they are
    n TEXT     a socket with that name connects where data goes
    x TEXT     bytes on the socket that asked to connect last
    l          one of our sockets listens;  a: and accepts
    k          the oldest of our sockets is closed
    u          the other user goes on; and back
    h          the honest program moves some bytes
    w          time passes

In TEXT ``$0`` and ``$1`` are our sockets, ``$h`` and ``$H`` the honest program's listener and connection, ``$t`` the
engine. What has to hold: the engine neither raises nor spins; what is said of the honest program's sockets is refused;
no port below 1024 is given away; the honest stream is whole; when we are gone nothing of ours is left.
"""

import contextlib
import errno
import os
import select
import socket as kernel
from collections.abc import Callable
from typing import Any, Final

import usertcp.socket as us
from tests.fuzz.target_api import TEXT, Stream
from tests.fuzz.turned import Turned, Users, turned, users
from usertcp.driver import messages
from usertcp.driver.broker import LETTERS
from usertcp.driver.entries import Held, Post
from usertcp.driver.operations import LOW_PORTS, NOT_OF_ONE_SOCKET, OPERATIONS
from usertcp.tcp.config import TcpConfig
from usertcp.units import SEC

LINES: Final = 40
OURS: Final = 54_321
UNKNOWN: Final = 54_322
PIECE: Final = 3000  # bytes that the honest program writes at a time
KEPT: Final = 16  # sockets of ours at a time


class Honest:
    """A program of root's: a listener, and both ends of a connection through it."""

    def __init__(self, engine: Turned, handle: us.Handle) -> None:
        self.engine = engine
        self.listener = handle.make_socket()
        self.listener.bind(("127.0.0.1", 443))
        self.listener.listen()
        self.client = handle.make_socket()
        self.client.connect(("127.0.0.1", 443))
        engine.settle()
        self.server, _ = self.listener.accept()
        self.stream = Stream()
        for sock in (self.client, self.server):
            sock.setblocking(False)

    @staticmethod
    def ident(sock: us.socket) -> str:
        """What the engine knows ``sock`` by."""
        assert sock._tcp is not None
        return sock._tcp.ident

    def move(self) -> None:
        """Some bytes more, and what has arrived."""
        stream = self.stream
        if stream.said + PIECE < len(TEXT):
            with contextlib.suppress(BlockingIOError):
                stream.said += self.client.send(TEXT[stream.said : stream.said + PIECE])
        self.engine.settle()
        try:
            data = self.server.recv(1 << 20)
        except BlockingIOError:
            return
        assert data, "the honest connection has ended"
        stream.hear(data, keep=False)

    def close(self) -> None:
        """All that was written arrives, and the end."""
        for _ in range(100):
            if self.stream.heard == self.stream.said:
                break
            self.engine.run(SEC)
            self.stream.hear(self.server.recv(1 << 20), keep=False)
        assert self.stream.heard == self.stream.said
        self.client.close()
        self.engine.settle()
        assert self.server.recv(1) == b"", "the honest connection did not end in order"
        for sock in (self.server, self.listener):
            sock.close()


class Intruder:
    """Who talks to the engine."""

    def __init__(self, engine: Turned, honest: Honest, who: Users) -> None:
        self.engine = engine
        self.honest = honest
        self.who = who
        self.socks: list[kernel.socket] = []
        self.idents: list[str] = []
        self.last: kernel.socket | None = None
        for _ in range(2):
            self._make()

    def _make(self) -> None:
        fd, ident = messages.make(False, owner=OURS)
        self._keep(kernel.socket(fileno=fd))
        self.idents.append(ident)

    def _keep(self, sock: kernel.socket) -> None:
        sock.setblocking(False)
        self.socks.append(sock)
        if len(self.socks) > KEPT:
            self.close(b"")

    def _filled(self, text: bytes) -> bytes:
        honest = self.honest
        names = {b"$0": self.idents[-1], b"$1": self.idents[-2], b"$t": self.engine.token}
        names |= {b"$h": honest.ident(honest.listener), b"$H": honest.ident(honest.client)}
        for name, value in names.items():
            text = text.replace(name, value.encode())
        return text

    def control(self, text: bytes) -> None:
        data = self._filled(text)[: messages.MESSAGE]
        with kernel.socket(kernel.AF_UNIX, kernel.SOCK_SEQPACKET) as sock:
            sock.setblocking(False)
            sock.connect(messages.control_name(self.engine.token))
            sock.send(data)
            self.engine.settle()
            for _ in range(20):
                if select.select([sock], [], [], 0)[0]:
                    break
                self.engine.run(SEC)
            raw, passed = _answer(sock)
        for _, _, fd in passed:
            os.close(messages.DESCRIPTOR.unpack(fd)[0])
        if raw:
            self._judge(data, messages.decode(raw))

    def _judge(self, data: bytes, answer: dict[str, Any]) -> None:
        """What the engine may have said to that."""
        number = answer.get("errno", 0)
        assert number in errno.errorcode or number == 0
        if self.who.user == UNKNOWN:
            assert number == errno.EACCES, "an unknown user got an answer"
            return
        try:
            message = messages.decode(data)
            of_honest = message["id"] in map(self.honest.ident, (self.honest.listener, self.honest.client))
            known = message["op"] in OPERATIONS and message["op"] not in NOT_OF_ONE_SOCKET
        except messages.MALFORMED:
            return
        assert not (of_honest and known) or number, "somebody else's socket was touched"

    def connect(self, text: bytes) -> None:
        try:
            request = messages.connect_request(messages.decode(self._filled(text)), messages.BUFFER)
        except (OSError, *messages.MALFORMED):
            return
        self._ask(request)

    def raw(self, text: bytes) -> None:
        self._ask(self._filled(text))

    def _ask(self, request: bytes) -> None:
        self._make()
        sock = self.socks[-1]
        try:
            sock.connect(messages.data_name(self.engine.token))
            sock.send(request)
        except OSError:
            return
        self.last = sock
        self.engine.settle()

    def named(self, text: bytes) -> None:
        sock = kernel.socket(kernel.AF_UNIX, kernel.SOCK_STREAM)
        self._keep(sock)
        try:
            sock.bind(messages.PREFIX + self._filled(text)[:90])
            sock.connect(messages.data_name(self.engine.token))
            sock.send(
                messages.connect_request({"remote": ["127.0.0.1", 443], "options": [], "place": ""}, messages.BUFFER)
            )
        except (OSError, ValueError):
            return
        self.engine.settle()

    def say(self, text: bytes) -> None:
        if self.last is not None:
            try:
                self.last.send(text * 50)
            except OSError:
                self.last = None
        self.engine.settle()

    def listen(self, text: bytes) -> None:
        for sock in self.socks[-2:]:
            try:
                sock.listen(1)
            except OSError:
                continue

    def accept(self, text: bytes) -> None:
        for sock in list(self.socks):
            try:
                conn, _ = sock.accept()
            except OSError:
                continue
            self._keep(conn)

    def close(self, text: bytes) -> None:
        if self.socks:
            self.socks.pop(0).close()
        self.engine.settle()

    def other(self, text: bytes) -> None:
        self.who.user = UNKNOWN if self.who.user == OURS else OURS

    def honest_moves(self, text: bytes) -> None:
        user, self.who.user = self.who.user, os.geteuid()
        self.honest.move()
        self.who.user = user

    def wait(self, text: bytes) -> None:
        self.engine.run((len(text) % 20) * SEC)

    def check(self) -> None:
        """What holds at any moment."""
        broker = self.engine.broker
        for ident, entry in broker.table.items():
            if messages.owner(ident) != OURS:
                continue
            if isinstance(entry, Held):
                assert entry.binding.port >= LOW_PORTS
            elif isinstance(entry, Post):
                assert entry.local[1] >= LOW_PORTS
        assert len(broker.letters) <= LETTERS

    def leave(self) -> None:
        for sock in self.socks:
            sock.close()
        self.socks.clear()
        self.engine.settle()


def _answer(sock: kernel.socket) -> tuple[bytes, list[tuple[int, int, bytes]]]:
    """What the engine said, and what it passed; nothing, if it has not said anything."""
    for _ in range(2):
        try:
            raw, passed, _, _ = sock.recvmsg(messages.MESSAGE, kernel.CMSG_SPACE(messages.DESCRIPTOR.size))
        except ConnectionResetError:  # it was closed with the request unread: the answer comes next
            continue
        except BlockingIOError:
            break
        return raw, passed
    return b"", []


DOES: Final[dict[int, Callable[[Intruder, bytes], None]]] = {
    ord("c"): Intruder.control,
    ord("d"): Intruder.connect,
    ord("r"): Intruder.raw,
    ord("n"): Intruder.named,
    ord("x"): Intruder.say,
    ord("l"): Intruder.listen,
    ord("a"): Intruder.accept,
    ord("k"): Intruder.close,
    ord("u"): Intruder.other,
    ord("h"): Intruder.honest_moves,
    ord("w"): Intruder.wait,
}


def run(data: bytes) -> None:
    """One input, to its end."""
    with turned(TcpConfig(msl=1 * SEC), low_ports=False) as (engine, handle), users() as who:
        honest = Honest(engine, handle)
        for sock in (honest.listener, honest.client):
            who.named[messages.own_name(honest.ident(sock))] = os.geteuid()
        engine.broker._users.add(OURS)
        intruder = Intruder(engine, honest, who)
        who.user = OURS
        for line in data.split(b"\n")[:LINES]:
            does = DOES.get(line[0]) if line else None
            if does is not None:
                does(intruder, line[1:])
                intruder.check()
        intruder.leave()
        who.user = os.geteuid()
        honest.move()
        honest.close()
        stack = engine.stack
        for _ in range(200):
            engine.run(SEC)
            if not engine.broker.table and not list(stack.connections()):
                break
        assert not engine.broker.table, engine.broker.table
        assert not list(stack.connections()), list(stack.connections())
        assert not stack._ports._bound, "a port is still held"
        assert stack.memory.used == 0
