"""The engine's side of the drop-in socket: requests in, connections out, one bridge for each connection.

A :class:`Broker` owns the two abstract listeners of an engine (:mod:`usertcp.driver.messages`) and a table of what the
programs' sockets are to the stack: a port that is held, a listener, a connection. A program asks over AF_UNIX, never by
a call, so that it does not matter in which thread or process it is.

**Accepting.** A program's listener is a real AF_UNIX listener. When the stack has a connection for it, the broker makes
``b``, names it after both addresses and connects it there; EAGAIN means that the accept queue is full, and the
connection waits in the stack's, which in turn lets SYNs wait.

**Errors.** The errno of a dead connection is left as a *letter* before ``b`` is closed; the program's end, finding the
end of the stream, asks for it. Letters that nobody asks for are bounded in number, oldest first.

**Liveness.** A socket has its own name as long as a descriptor for it exists anywhere. Held ports and listeners are
therefore probed by that name and the inode that is a part of it: when their program says that it closed one, when a
process that has asked for something ends, however it does (pidfd), when somebody else wants their port, and every
``SWEEP``.

**Users.** Whoever runs the engine, and root, may use it; others when they have got through to its door (a file, and so
the kernel's business: :mod:`usertcp.driver.service`). A socket belongs to the user who made it; its identity says who
that is, and whoever asks something of it, or connects by its name, is compared with that. So no letter, port or
listener can be had by a name that somebody has read in /proc/net/unix.
"""

import _socket
import contextlib
import errno
import os
import resource
import select
import weakref
from collections import OrderedDict
from collections.abc import Callable, Generator
from operator import index
from typing import Any, Final, TypeVar

from usertcp.driver import diag, messages
from usertcp.driver.addresses import LOCAL6, NOWHERE
from usertcp.driver.base import BUDGET, UNFINISHED, Pump
from usertcp.driver.bridge import AT_ONCE, EVENTS, OPENING, SMALL, WHILE_OPEN, Bridge
from usertcp.driver.engine import Engine
from usertcp.driver.entries import RETRY, Accepted, Arrival, Held, Post, Request, Timed
from usertcp.driver.messages import Message, Peer
from usertcp.driver.operations import DONE_UNHEARD, NOT_OF_ONE_SOCKET, OPERATIONS
from usertcp.driver.options import Options
from usertcp.driver.origin import brief
from usertcp.errors import os_error
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.units import NEVER, SEC

IN: Final = select.EPOLLIN
QUEUE: Final = 1024  # sockets and requests that may wait for the engine; the kernel clamps it to somaxconn
LETTERS: Final = 4096  # errnos kept for programs that have not asked yet
SWEEP: Final = 5 * SEC  # ns between two probes of all held ports and listeners
DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

T = TypeVar("T")

_brokers: "Final[weakref.WeakSet[Broker]]" = weakref.WeakSet()


class Broker:
    """See the module.

    ``table``      what each socket, by its identity, is to the stack
    ``about``      what a program is told that is let in
    ``low_ports``  whether every user may have ports below 1024
    ``owner``      the user who started the engine, if it has given up that user's rights; None: whose process it is
    ``on_post``    told of listeners that come (True) and go, by identity
    """

    def __init__(self, engine: Engine, *, low_ports: bool = True, owner: int | None = None) -> None:
        pump: Pump = engine.pump
        self.engine = engine
        self.stack = pump.stack
        self.token = messages.new_ident()
        self.now: Callable[[], int] = pump.clock
        self.table: dict[str, Held | Post | Bridge] = {}
        self.buffer = memoryview(bytearray(SMALL))  # the bridges', empty between two calls
        self.arrivals: dict[str, Arrival] = {}
        self.letters: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self.about: Message = {}
        self.low_ports = low_ports
        self.owner = owner
        self.on_post: Callable[[str, bool], object] = lambda ident, there: None
        self._door: _socket.socket | None = None
        self._process = os.getpid()
        self._users: set[int] = set()  # those that were let in
        self._processes: dict[int, int] = {}  # pidfds of those that have asked for something
        self._requests: set[Request] = set()
        self.closing: dict[str, Connection] = {}  # closed with SO_LINGER, not acknowledged yet
        self._due: dict[Timed, int] = {}
        self._sweep_at = NEVER
        self.closed = False
        with contextlib.ExitStack() as undo:
            self._data = _listener(_socket.SOCK_STREAM, messages.data_name(self.token))
            undo.callback(self._data.close)
            self._control = _listener(_socket.SOCK_SEQPACKET, messages.control_name(self.token))
            undo.callback(self._control.close)
            self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(self._let_spare_go)
            self._listen(True)
            undo.pop_all()
        _raise_descriptor_limit()
        _brokers.add(self)

    # -- descriptors and time ----------------------------------------------------------------------------------------

    def call_at(self, item: Timed, at: int) -> None:
        """Call ``item.on_due`` at ``at`` (ns), once; a later call replaces it."""
        self._due[item] = at

    def next_deadline(self) -> int:
        """When :meth:`on_timers` is due (ns); NEVER."""
        return min(self._due.values(), default=NEVER) if self._due else self._sweep_at

    def on_timers(self) -> None:
        """Call back what is due. Cheap when nothing is."""
        if not self._due and self._sweep_at == NEVER:
            return
        now = self.now()
        for item in [item for item, at in self._due.items() if at <= now]:
            if self._due.pop(item, None) is not None:
                item.on_due(now)
        if now >= self._sweep_at:
            self._sweep()

    def on_due(self, now: int) -> None:
        """There may be descriptors again: listen on."""
        if self.closed:
            return
        try:
            self._listen(True)
        except OSError:
            self._listen(False)
            self.call_at(self, self.now() + RETRY)

    def forget(self, item: "Bridge | Arrival | Request", sock: _socket.socket) -> None:
        """``item`` is over: let its descriptor go, and everything kept for it."""
        if sock.fileno() >= 0:
            self.engine.unregister(sock.fileno())
            sock.close()
        if isinstance(item, Bridge):
            self._due.pop(item, None)
            if self.table.get(item.ident) is item:
                del self.table[item.ident]
                if item.options.linger[0]:
                    self._remember_closing(item)
        elif isinstance(item, Request):
            self._requests.discard(item)
        else:
            self.arrivals.pop(item.ident, None)

    def _remember_closing(self, item: Bridge) -> None:
        """SO_LINGER may ask for ``item`` yet; those that nobody asked for, and that have ended, go."""
        self.closing = {ident: conn for ident, conn in self.closing.items() if conn.state in UNFINISHED}
        if item.conn.state in UNFINISHED:
            self.closing[item.ident] = item.conn

    def open_door(self, door: _socket.socket) -> None:
        """Answer at ``door`` too, and let in whoever gets through to it. It is closed with the broker."""
        self._door = door
        self.engine.register(door.fileno(), IN, self._on_door)

    def _listeners(self) -> dict[_socket.socket, Callable[[int], object]]:
        """What programs connect to, and what is called then."""
        listeners: dict[_socket.socket, Callable[[int], object]] = {
            self._data: self.on_data,
            self._control: self._on_control,
        }
        return listeners if self._door is None else listeners | {self._door: self._on_door}

    def _listen(self, on: bool) -> None:
        for sock, callback in self._listeners().items():
            if on:
                self.engine.register(sock.fileno(), IN, callback)
            else:
                self.engine.unregister(sock.fileno())

    def _accept(self, listener: _socket.socket) -> tuple[_socket.socket, Any] | None:
        """The next socket that waits at ``listener``, non-blocking, and its name.

        None: nobody waits, or there are no descriptors.
        """
        try:
            fd, name = listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno in DESCRIPTORS:
                self._refuse(listener)
            return None
        sock = _socket.socket(_socket.AF_UNIX, listener.type, 0, fd)
        sock.setblocking(False)
        return sock, name

    def _refuse(self, listener: _socket.socket) -> None:
        """Out of descriptors: use the spare one to turn somebody away, who would wait for ever otherwise."""
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
            got = None
            try:
                fd, _ = listener._accept()  # type: ignore[attr-defined]
                got = _socket.socket(_socket.AF_UNIX, listener.type, 0, fd)
                if listener is not self._data:
                    got.send(messages.encode({"errno": errno.EMFILE}))
            except OSError:
                pass
            finally:
                if got is not None:
                    got.close()
        try:
            self._spare = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._listen(False)
            self.call_at(self, self.now() + RETRY)

    # -- connections that a program opens ----------------------------------------------------------------------------

    def on_data(self, mask: int) -> None:
        while got := self._accept(self._data):
            sock, raw = got
            name = messages.parse_name(raw)
            if name is None or name.kind != "a" or not self._may_connect(messages.peer(sock), name.ident):
                sock.close()  # not a program of ours
                continue
            arrival = Arrival(self, name.ident, sock)
            self.arrivals[name.ident] = arrival
            if not self._attend(sock, arrival.on_event):
                self.leave_letter(name.ident, errno.ENOBUFS, AT_ONCE)
                arrival.close()

    def _may_connect(self, peer: Peer, ident: str) -> bool:
        try:
            return self.admits(peer) and self.may(peer, ident) and not isinstance(self.table.get(ident), Bridge)
        except ValueError:
            return False

    def connect(self, arrival: Arrival, request: Message) -> None:
        """Open the connection that ``arrival`` asks for; an error is left as a letter."""
        ident, sock = arrival.ident, arrival.sock
        host, port = messages.address(request["remote"])
        fill, place = index(request["fill"]), brief(request["place"])
        if not 0 < fill <= messages.MESSAGE:
            raise ValueError("a connect request fills the buffer")
        if host == NOWHERE[0]:  # this host, as on Linux
            host = LOCAL6 if messages.is_six(ident) else "127.0.0.1"
        if port == 0:  # nobody is there, as on Linux
            self.leave_letter(ident, errno.ECONNREFUSED, OPENING)
            arrival.close()
            return
        if isinstance(self.table.get(ident), Post):  # it listened once
            self.close_entry(ident)
        held = self.table.get(ident)
        chosen = held.options if isinstance(held, Held) else Options.load(request["options"])
        config = chosen.config(self.base())
        try:
            conn = self.with_room(
                lambda: self.stack.connect(
                    (host, port), self.now(), local=held.binding if isinstance(held, Held) else None, config=config
                )
            )
        except OSError as error:
            self.leave_letter(ident, error.errno or errno.EINVAL, AT_ONCE)
            arrival.close()
            return
        if isinstance(held, Held):
            held.close()
        del self.arrivals[ident]
        conn.flow.opened_by = place
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, _queue(config))
        self.engine.unregister(sock.fileno())
        self._bridge(Bridge(self, ident, sock, conn, chosen, fill))

    def _bridge(self, bridge: Bridge) -> None:
        self.table[bridge.ident] = bridge
        if self._attend(bridge.sock, bridge.on_event):
            bridge.advance()
        else:
            self.leave_letter(bridge.ident, errno.ENOBUFS, WHILE_OPEN)
            bridge.reset()

    def _attend(self, sock: _socket.socket, callback: Callable[[int], object]) -> bool:
        """Call ``callback`` when something happens to ``sock``. False: the kernel watches no more (epoll(7):
        max_user_watches, or its memory)."""
        try:
            self.engine.register(sock.fileno(), EVENTS, callback)
        except OSError:
            return False
        return True

    def leave_letter(self, ident: str, number: int, when: int) -> None:
        """Keep the errno of a connection that is over, and when it failed, until its program asks."""
        self.letters[ident] = (number, when)
        if len(self.letters) > LETTERS:
            self.letters.popitem(last=False)

    # -- connections that a program accepts --------------------------------------------------------------------------

    def offer(self, post: Post, conn: Connection) -> int:
        """Put ``conn``, the first that waits at ``post``, into the program's accept queue. 0, or the errno:
        ECONNREFUSED if the program has closed its listener, anything else to try again later."""
        owner = messages.owner(post.ident)
        ident = messages.new_ident(six=messages.is_six(post.ident), owner=owner)
        name = messages.peer_name(self.token, ident, conn.flow.local, conn.flow.remote)
        try:
            sock = messages.reach(post.ident, name, _queue(conn.config))
        except OSError as error:
            return error.errno or errno.EAGAIN
        if not self.may(messages.peer(sock), post.ident):  # it has died, and its name is another's now
            sock.close()
            return errno.ECONNREFUSED
        post.listener.accept()
        conn.flow.opened_by = Accepted(ident, post.place)
        self._bridge(Bridge(self, ident, sock, conn, post.options.copy()))
        return 0

    # -- liveness ----------------------------------------------------------------------------------------------------

    def is_alive(self, ident: str) -> bool:
        """Whether a descriptor of the program's socket ``ident`` exists anywhere (False for an accepted one); True also
        when that cannot be asked for want of descriptors.

        Only its inode tells: the name of one that is gone is anybody's who takes it.
        """
        inode, name = messages.inode(ident), messages.own_name(ident)
        try:
            probe = messages.Control(_socket.AF_UNIX, _socket.SOCK_STREAM)
        except OSError:
            return True
        with probe:
            try:
                probe.bind(name)
            except OSError:  # somebody has it
                return inode > 0 and diag.may_be_called(inode, name)
        return False

    def close_entry(self, ident: str) -> None:
        """Give up a held port or a listener."""
        entry = self.table.get(ident)
        if isinstance(entry, Held | Post):
            del self.table[ident]
            if isinstance(entry, Post):
                self._due.pop(entry, None)
                self.on_post(ident, False)
            entry.close()

    def posts(self) -> list[str]:
        """The identities of all listeners."""
        return [ident for ident, entry in self.table.items() if isinstance(entry, Post)]

    def _watch(self, process: int) -> None:
        """Have a sweep when ``process`` has ended. It is alive: it waits for an answer."""
        if process in self._processes or process == self._process:
            return
        try:
            watched = os.pidfd_open(process)
        except OSError:  # of a namespace of processes that we cannot see, or gone already: the next sweep finds out
            return
        try:
            self.engine.register(watched, IN, lambda _: self._process_ended(process))
        except OSError:
            os.close(watched)
            return
        self._processes[process] = watched

    def _process_ended(self, process: int) -> None:
        watched = self._processes.pop(process)
        self.engine.unregister(watched)
        os.close(watched)
        self._sweep()

    def _sweep(self) -> None:
        """Give up the held ports and listeners whose sockets are gone."""
        kept = False
        for ident, entry in list(self.table.items()):
            if isinstance(entry, Held | Post):
                if self.is_alive(ident):
                    kept = True
                else:
                    self.close_entry(ident)
        self._sweep_at = self.now() + SWEEP if kept else NEVER

    def with_room(self, claim: Callable[[], T]) -> T:
        """``claim()``, tried again after a sweep if the port is in use."""
        try:
            return claim()
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EADDRNOTAVAIL):
                raise
        self._sweep()
        return claim()

    # -- requests ----------------------------------------------------------------------------------------------------

    def is_trusted(self, peer: Peer) -> bool:
        """Whether nothing is denied to ``peer``: this process, whoever it is by now, who runs it, or root.

        Not others of the user whose process it has become to give up its rights: they may be anybody's.
        """
        owner = os.geteuid() if self.owner is None else self.owner
        return peer.process == self._process or peer.user in (0, owner)

    def admits(self, peer: Peer) -> bool:
        """Whether ``peer`` may use the engine."""
        return peer.user in self._users or self.is_trusted(peer)

    def may(self, peer: Peer, ident: str) -> bool:
        """Whether the socket ``ident`` is ``peer``'s to use. ValueError if there can be no such socket."""
        return messages.owner(ident) == peer.user or self.is_trusted(peer)

    def _on_door(self, mask: int) -> None:
        assert self._door is not None
        self._take_requests(self._door)

    def _on_control(self, mask: int) -> None:
        self._take_requests(self._control)

    def _take_requests(self, listener: _socket.socket) -> None:
        while got := self._accept(listener):
            sock, _ = got
            peer = messages.peer(sock)
            if listener is self._door:
                self._users.add(peer.user)
            request = Request(self, sock, peer)
            self._requests.add(request)
            if not self.admits(peer):
                request.reply({"errno": errno.EACCES})
            elif self._attend(sock, request.on_event):
                request.on_event(IN)
            else:
                request.reply({"errno": errno.ENOBUFS})

    def answer(self, data: bytes, request: Request) -> Message | None:
        """Do what ``data`` asks. None: the answer comes later."""
        try:
            message = messages.decode(data)
            operation = message["op"]
            if message.get("engine", self.token) != self.token:  # of another engine, whose place we have taken
                raise os_error(errno.ENETDOWN)
            if operation not in NOT_OF_ONE_SOCKET and not self.may(request.peer, message["id"]):
                raise os_error(errno.EPERM)
            if operation not in DONE_UNHEARD and request.abandoned:
                raise os_error(errno.EPIPE)
            self._watch(request.peer.process)
            return OPERATIONS[operation](self, message, request)
        except OSError as error:
            return {"errno": error.errno or errno.EIO}
        except messages.MALFORMED:
            return {"errno": errno.EINVAL}

    def base(self) -> TcpConfig:
        config: TcpConfig = self.stack.config.tcp
        return config

    def hold(self, entry: Held | Post) -> None:
        self.table[entry.ident] = entry
        if isinstance(entry, Post):
            self.on_post(entry.ident, True)
        if self._sweep_at == NEVER:
            self._sweep_at = self.now() + SWEEP

    # -- the end -----------------------------------------------------------------------------------------------------

    def hand_over(self) -> bool:
        """The engine stops: take no more from programs, and move what they have sent into the send rings.

        True: some of it has no room yet.
        """
        for bridge in self._undrained():
            bridge.seal()
        return bool(self._undrained())

    def reset_undrained(self) -> None:
        """The time for that is over. A peer that gets less than was sent must not take it for the whole."""
        for bridge in self._undrained():
            bridge.reset()

    def _undrained(self) -> list[Bridge]:
        return [
            entry
            for entry in self.table.values()
            if isinstance(entry, Bridge) and entry.connected and not entry.drained
        ]

    def close(self) -> None:
        """Let everything go: programs' sockets hang up, those that accept are woken. Closing twice is harmless."""
        if self.closed:
            return
        self.closed = True
        _brokers.discard(self)
        self._listen(False)
        for listener in self._listeners():
            listener.close()
        for watched in self._processes.values():
            self.engine.unregister(watched)
            os.close(watched)
        self._processes.clear()
        self._due.clear()
        for entry in list(self.table.values()):
            if isinstance(entry, Bridge):
                entry.drop()
            elif isinstance(entry, Post):
                if messages.wake(self.token, entry.ident):
                    self.on_post(entry.ident, False)
                entry.listener.user = None
        for item in self._unsettled():
            self.forget(item, item.sock)
        self.table.clear()
        self._let_spare_go()

    def _unsettled(self) -> list[Arrival | Request]:
        return [*self.arrivals.values(), *self._requests]

    def _let_spare_go(self) -> None:
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1

    def after_fork(self) -> None:
        """In a child: the copies of our descriptors would keep every connection open. The epoll is the parent's too,
        so nothing is unregistered."""
        self.closed = True
        for watched in self._processes.values():
            os.close(watched)
        for sock in [*self._listeners(), *(item.sock for item in self._unsettled())]:
            sock.close()
        for entry in self.table.values():
            if isinstance(entry, Bridge):
                entry.sock.close()
        self.table.clear()
        self._let_spare_go()


class SocketEngine(Engine):
    """An engine with a broker. A device that dies takes the broker along, so that no program waits for it."""

    def __init__(self, pump: Pump, *, low_ports: bool = True, owner: int | None = None) -> None:
        super().__init__(pump)
        try:
            self.broker = Broker(self, low_ports=low_ports, owner=owner)
        except BaseException:
            super().close()
            raise
        pump.on_failure = self.broker.close

    def begin(self) -> None:
        messages.answer_here()

    def timeout_ns(self) -> int:
        return min(super().timeout_ns(), max(0, self.broker.next_deadline() - self.pump.clock()))

    def handle(self, events: list[tuple[int, int]], budget: int = BUDGET) -> bool:
        self.broker.on_timers()
        return super().handle(events, budget)

    def lingering(self, deadline: int) -> Generator[int]:
        """As the kernel does for a process that ends: what it has sent is delivered, then FIN; or else it is reset."""
        clock, broker = self.pump.clock, self.broker
        try:
            while broker.hand_over() and self.pump.failure is None and clock() < deadline:
                yield min(self.timeout_ns(), RETRY)
        finally:
            broker.reset_undrained()
            broker.close()
        yield from super().lingering(deadline)

    def close(self) -> None:
        self.broker.close()
        super().close()


def _listener(kind: int, name: bytes) -> _socket.socket:
    sock = _socket.socket(_socket.AF_UNIX, kind)
    sock.bind(name)
    sock.listen(QUEUE)
    sock.setblocking(False)
    return sock


def _queue(config: TcpConfig) -> int:
    """How much may wait in the kernel for the program, bytes."""
    return messages.queue(config.receive_buffer, config.receive_buffer_max)


def _raise_descriptor_limit() -> None:
    """A connection takes two descriptors: use what the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # otherwise the soft one it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _after_fork_in_child() -> None:
    for broker in list(_brokers):
        broker.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
