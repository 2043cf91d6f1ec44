"""What a program's socket, or its request, is to a broker while it is not a connection.

::

    Held      bind       a port
    Post      listen     a listener, whose connections go to the program's accept queue
    Arrival   connect    a stream that has not said yet where to
    Request   anything   one question on the control socket, and Linger the one whose answer takes time

They keep what they are and act when the broker calls; who they are, and what exists, is the broker's table.
"""

import _socket
import contextlib
import errno
import os
import select
from typing import TYPE_CHECKING, Final, Protocol

from usertcp.driver import messages
from usertcp.driver.base import UNFINISHED
from usertcp.driver.endpoint import place_of
from usertcp.driver.messages import Message
from usertcp.driver.options import Options
from usertcp.net.flow import Binding
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.units import MS

if TYPE_CHECKING:
    from usertcp.driver.broker import Broker

RETRY: Final = 2 * MS  # ns until a full accept queue, or a full descriptor table, is tried again
MAX_RETRY: Final = 64 * MS  # ns; the wait doubles up to this
LINGER_STEP: Final = 5 * MS  # ns between two looks at a connection whose close() blocks


class Timed(Protocol):
    """What asked to be called back."""

    def on_due(self, now: int) -> None: ...


class Held:
    """A port that a program has bound, without a listener or connection so far."""

    __slots__ = ("binding", "ident", "options")

    def __init__(self, ident: str, chosen: Options, binding: Binding) -> None:
        self.ident = ident
        self.options = chosen
        self.binding = binding

    def close(self) -> None:
        self.binding.close()


class Post:
    """A listening socket. ``place``: where in the program it began to listen."""

    __slots__ = ("_delay", "broker", "ident", "listener", "local", "options", "place")

    def __init__(
        self, broker: "Broker", ident: str, listener: Listener, local: messages.Address, chosen: Options, place: str
    ) -> None:
        self.broker = broker
        self.ident = ident
        self.listener = listener
        self.local = local
        self.options = chosen
        self.place = place
        self._delay = RETRY
        listener.user = self

    def on_ready(self) -> None:
        """Hand over what waits; called again when the accept queue was full."""
        queue = self.listener.queue
        while queue and not self.broker.closed:
            outcome = self.broker.offer(self, queue[0])
            if outcome == errno.ECONNREFUSED:
                self.broker.close_entry(self.ident)
                return
            if outcome:
                self.broker.call_at(self, self.broker.now() + self._delay)
                self._delay = min(2 * self._delay, MAX_RETRY)
                return
            self._delay = RETRY

    def on_due(self, now: int) -> None:
        self.on_ready()

    def close(self) -> None:
        self.listener.user = None
        self.listener.close()


class Accepted:
    """Where the program has accepted the socket ``ident``, if it is in this process; else where it began to listen."""

    __slots__ = ("ident", "listener")

    def __init__(self, ident: str, listener: str) -> None:
        self.ident = ident
        self.listener = listener

    def __str__(self) -> str:
        return str(place_of(self.ident) or self.listener)


class Arrival:
    """A program's socket that has connected and whose request is not there yet."""

    __slots__ = ("broker", "ident", "sock")

    def __init__(self, broker: "Broker", ident: str, sock: _socket.socket) -> None:
        self.broker = broker
        self.ident = ident
        self.sock = sock

    def on_event(self, mask: int) -> None:
        """Read the request, which stays in the buffer."""
        try:
            data = self.sock.recv(messages.MESSAGE, _socket.MSG_PEEK)
            request = messages.parse_request(data)
            if request is not None:
                self.broker.connect(self, request)
            elif not data or mask & (select.EPOLLRDHUP | select.EPOLLHUP):
                self.close()
        except BlockingIOError:
            return
        except (OSError, *messages.MALFORMED):  # gone, or not a program of ours
            self.close()

    def close(self) -> None:
        self.broker.forget(self, self.sock)


class Request:
    """A question that is not there yet, or is not answered yet.

    ``peer``   the process and the user who ask
    ``fd``     a descriptor that goes with the answer, and is closed then
    """

    __slots__ = ("broker", "fd", "peer", "sock")

    def __init__(self, broker: "Broker", sock: _socket.socket, peer: messages.Peer) -> None:
        self.broker = broker
        self.sock = sock
        self.peer = peer
        self.fd: int | None = None

    def on_event(self, mask: int) -> None:
        """Read the request and answer it."""
        try:
            data = self.sock.recv(messages.MESSAGE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        answer = self.broker.answer(data, self) if data else {}
        if answer is not None:
            self.reply(answer)

    @property
    def abandoned(self) -> bool:
        """Whether who asked has not waited for the answer, and believes that nothing was done."""
        poll = select.poll()
        poll.register(self.sock, select.POLLRDHUP)
        return bool(poll.poll(0))

    def reply(self, answer: Message) -> None:
        """Answer, and be over."""
        with contextlib.suppress(OSError):  # nobody waits any more
            if self.fd is None:
                self.sock.send(messages.encode(answer))
            else:
                self._pass(self.fd, answer)
        if self.fd is not None:
            os.close(self.fd)
        self.broker.forget(self, self.sock)

    def _pass(self, fd: int, answer: Message) -> None:
        """Answer, and pass ``fd``: too many may be on their way already (ETOOMANYREFS)."""
        try:
            self.sock.sendmsg([messages.encode(answer)], messages.passing(fd))
        except OSError:
            self.sock.send(messages.encode({"errno": errno.ENFILE}))


class Linger:
    """A close() that blocks until the peer has acknowledged everything (SO_LINGER), or its time is over."""

    __slots__ = ("broker", "conn", "deadline", "done", "ident", "request")

    def __init__(self, broker: "Broker", ident: str, conn: Connection | None, request: Request, deadline: int) -> None:
        """``conn`` is None if it has ended already."""
        self.broker = broker
        self.ident = ident
        self.conn = conn
        self.request = request
        self.deadline = deadline
        self.done = False

    def on_due(self, now: int) -> None:
        over = self.conn is None or self.conn.state not in UNFINISHED
        done = over and self.ident not in self.broker.table
        if self.done or now >= self.deadline:
            self.request.reply({})
        elif done:  # a turn later what ended it, a reset, has left
            self.done = True
            self.broker.call_at(self, now)
        else:
            self.broker.call_at(self, min(now + LINGER_STEP, self.deadline))
