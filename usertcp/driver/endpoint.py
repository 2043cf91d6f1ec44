"""The program's side of a drop-in socket: what a descriptor is to TCP, and how it asks the engine.

All objects on one socket (made by dup, ``fileno=``, an inherited descriptor) share one :class:`Endpoint`. What this
process does not know of a descriptor is read off its names, or asked of the engine; what may change behind its back
(a handshake that ends, a reset) is never remembered but looked up.

Only descriptors and messages here: the class that users see is in ``usertcp.socket``.
"""

import _socket
import contextlib
import errno
import os
import select
import socket as stdlib
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from usertcp.driver import messages, options
from usertcp.driver.addresses import LOCAL6, NOWHERE
from usertcp.driver.messages import GONE, Address, Message, Name, View
from usertcp.driver.options import Options
from usertcp.driver.origin import Place, brief, here
from usertcp.errors import StackError, os_error
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import State

# What a socket is, as far as this process knows.
FRESH: Final = 0
HELD: Final = 1  # bound
LISTENING: Final = 2
CONNECTING: Final = 3
CONNECTED: Final = 4  # or was once
FAILED: Final = 5  # the connect failed; the errno may still be pending
SHUT: Final = 6  # listened until shutdown(SHUT_RD), which makes it like bound

VIGIL: Final = 2.0  # seconds that what wakes accept is left, for others who share the listener of a dead engine
PAUSE: Final = 0.05  # seconds that an accept waits which was told before: a program that asks in a loop is not to spin
MOMENT: Final = 0.2  # seconds that a non-blocking connect waits for what need not wait for the network
DEVELOPMENT: Final = sys.flags.dev_mode  # python -X dev, PYTHONDEVMODE
MIN_SNDBUF: Final = 4096  # bytes of AF_UNIX buffer below which a connect request might not fit

_READY: Final = select.POLLIN | select.POLLOUT
_DEFAULTS: Final = TcpConfig()


class Endpoint:
    """A TCP socket, whatever the number of objects and descriptors.

    ``find_token``  names the engine when one is first needed
    ``bound``       the address that the user chose, to be had again after a failed connect
    ``opened_by``   where in this program it was connected, accepted, or began to listen; None: elsewhere
    ``queue``       SO_SNDBUF of a descriptor that is connected
    ``announced``   whether a connect() has told that the handshake is done
    ``shared``      a child has it, too, and may make it something while it is nothing yet
    ``shut_read``   shutdown(SHUT_RD) was called
    ``timeout``     of the object that was used last (as its ``gettimeout``): it bounds what is asked of the engine
    ``told``        the engine was told that a descriptor of it was closed
    ``dead``        ENETDOWN was raised: the engine is gone, and everything reads as the end from now on
    ``vigil``       when nobody else is waited for any more to learn that of a listener, s; 0: not known yet
    """

    __slots__ = (
        "__weakref__",
        "announced",
        "bound",
        "dead",
        "find_token",
        "ident",
        "local",
        "opened_by",
        "options",
        "phase",
        "queue",
        "remote",
        "shared",
        "shut_read",
        "timeout",
        "token",
        "told",
        "vigil",
    )

    def __init__(self, ident: str, find_token: Callable[[], str], token: str = "", phase: int = FRESH) -> None:
        self.ident = ident
        self.find_token = find_token
        self.token = token
        self.phase = phase
        self.options = Options()
        self.local: Address = NOWHERE
        self.remote: Address | None = None
        self.bound: Address | None = None
        self.opened_by: Place | None = None
        self.announced = True
        self.shut_read = False
        self.timeout: float | None = None
        self.dead = self.told = self.shared = False
        self.vigil = 0.0
        self.queue = messages.BUFFER
        _known[ident] = self

    @property
    def six(self) -> bool:
        """Whether it is an AF_INET6 socket to its user."""
        return messages.is_six(self.ident)

    # -- asking ------------------------------------------------------------------------------------------------------

    def call(self, operation: str, patience: float | None = None, **words: Any) -> Message:
        """Ask the engine. ESRCH: it knows nothing of this socket.

        TimeoutError, of a non-blocking socket EAGAIN, when it does not answer within ``patience`` seconds (None: by
        the socket's timeout, but at least BRIEF: a request is no wait for the network); nothing was done then.
        """
        if not self.token:
            self.token = self.find_token()
        if patience is None and self.timeout is not None:
            patience = max(self.timeout, messages.BRIEF)
        try:
            return messages.call(self.token, {"op": operation, "id": self.ident, **words}, patience)
        except TimeoutError as error:
            if self.timeout == 0 and error.errno is None:
                raise os_error(errno.EAGAIN) from None
            raise

    def tell(self, operation: str, **words: Any) -> bool:
        """Ask the engine. False: it knows nothing of this socket."""
        try:
            self.call(operation, **words)
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise
            return False
        return True

    def take_error(self, *, reading: bool = False) -> int:
        """The pending errno, which is pending no longer; StackError, once, when the engine is gone.

        Only the user who made a socket is told; to others who hold it there is none.
        """
        if self.dead or not self.token:
            return 0
        try:
            return int(self.call("error", reading=reading)["error"])
        except StackError:
            self.dead = True
            raise
        except PermissionError:
            return 0

    def raise_pending(self, *, reading: bool = False) -> None:
        """Raise the pending error, once; ``reading``: in place of the end of the stream."""
        number = self.take_error(reading=reading)
        if number:
            raise os_error(number)

    def end_of_stream(self, timeout: float | None) -> None:
        """Raise the pending error in its place. ``timeout``: of the object that reads."""
        self.timeout = timeout
        self.raise_pending(reading=True)

    def receiving_failed(self, error: OSError, flags: int, timeout: float | None) -> None:
        """Raise what TCP would have said where AF_UNIX said ``error``; return where it would have read the end."""
        if error.errno == errno.ECONNRESET:
            self.end_of_stream(timeout)
            return
        if error.errno == errno.EINVAL and self.phase in (FRESH, HELD, LISTENING) and not flags & stdlib.MSG_OOB:
            raise os_error(errno.ENOTCONN) from None
        if error.errno == errno.EOPNOTSUPP and flags & stdlib.MSG_OOB:
            raise os_error(errno.EINVAL) from None
        try:
            raise error
        finally:
            del error  # which has this frame in its traceback: who reads would be kept until garbage is looked for

    def why_not_sent(self, timeout: float | None) -> OSError:
        """What TCP would have said where AF_UNIX had nobody to send to."""
        self.timeout = timeout
        return os_error(self.take_error() or errno.EPIPE)

    # -- accepting ---------------------------------------------------------------------------------------------------

    def came_by_engine(self, sock: _socket.socket) -> bool:
        """Whether this, which was accepted as ``sock``, was put there by our engine, or says rightly that there is none
        any more."""
        return messages.bears_true_news(sock, self.token) if self.dead else messages.trusted(sock)

    # -- a listener whose engine is dead -----------------------------------------------------------------------------

    def pass_on(self, token: str) -> None:
        """This listener's accept has taken what says that the engine ``token`` is dead: the next who waits, in whatever
        thread or process, is to find it, too."""
        self.dead = True
        messages.wake(token, self.ident, 1)

    def told_again(self, fd: int) -> None:
        """Accept was called once more. What wakes others stays in the queue, and so it polls readable; an event loop
        would hear of that for ever, so if it does not block, it is taken out when all have had the time to see it."""
        now = time.monotonic()
        self.vigil = self.vigil or now + VIGIL
        if now < self.vigil or os.get_blocking(fd):
            time.sleep(PAUSE)
            return
        for waiting in _unaccepted(fd):
            os.close(waiting)

    # -- looking -----------------------------------------------------------------------------------------------------

    def look(self, fd: int) -> int:
        """The phase, after a look whether a pending connect is over, or a listener that was shut is to be renewed."""
        if self.phase == SHUT:  # not before somebody asks: who waits for it in epoll is to be woken
            self.renew(fd)
        elif self.shared and self.phase in (FRESH, HELD):
            self.discover(fd, messages.names(fd)[1], engine_runs=bool(self.token))
        if self.phase == CONNECTING:
            mask = _poll(fd, 0)
            if mask & select.POLLHUP:
                self.phase = CONNECTED if self.call("outcome")["connected"] else FAILED
            elif mask & select.POLLOUT:
                self.phase = CONNECTED
                if self.queue > messages.BUFFER:  # the connect request, padded for the smaller one, is away
                    with View(fd) as view:
                        view.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, self.queue)
        return self.phase

    def wait(self, fd: int, timeout: float | None) -> int:
        """Wait until a pending connect is over; the phase. TimeoutError after ``timeout`` seconds."""
        if not _poll(fd, timeout):
            raise TimeoutError("timed out")
        return self.look(fd)

    def discover(self, fd: int, peer: Name | None, *, engine_runs: bool) -> None:
        """Learn what it has become in other hands. ``peer``: the name that the descriptor is connected to."""
        with View(fd) as view:
            listening = view.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN)
        if peer is not None:
            self.token, self.phase = peer.token, CONNECTING
        elif listening:
            self.phase = LISTENING
        elif not engine_runs:
            return
        with contextlib.suppress(OSError):  # ESRCH: fresh, or its connection is over
            names = self.call("names")
            self.local = pair(names["local"])
            self.remote = pair(names["remote"]) if "remote" in names else None
            self.phase = self.phase or HELD

    def where(self, fd: int) -> Address:
        """The local address; asked for if the engine was too slow to tell it when the connect began."""
        if self.shared:
            self.look(fd)
        if self.phase in (CONNECTING, CONNECTED) and self.local[0] == NOWHERE[0]:
            try:
                self.local = pair(self.call("names")["local"])
            except OSError as error:
                if error.errno != errno.ESRCH:
                    raise
        return self.local

    def over(self, fd: int) -> bool:
        """Whether a connection has ended both ways, so that Linux would call the socket not connected."""
        if not _poll(fd, 0) & select.POLLHUP:
            return False
        try:
            return "remote" not in self.call("names")
        except (TimeoutError, BlockingIOError):
            raise
        except OSError:
            return True

    # -- doing -------------------------------------------------------------------------------------------------------

    def bind(self, address: Address) -> None:
        """Hold a local address."""
        answer = self.call("bind", **self._at(address), options=self.options.dump())
        self.local = self.bound = (address[0], pair(answer["local"])[1])
        self.phase = HELD

    def listen(self, backlog: int) -> None:
        """Have the engine listen; the descriptor does already."""
        words = self._at(NOWHERE) | {"options": self.options.dump(), "place": self._opened_here()}
        answer = self.call("listen", backlog=backlog, **words)
        if self.phase == FRESH:
            self.local = (NOWHERE[0], pair(answer["local"])[1])
        self.phase = LISTENING

    def _at(self, address: Address) -> Message:
        """The words of a message that say where: what the wildcard of an AF_INET6 socket covers is its option's."""
        if not self.six or address[0] != NOWHERE[0]:
            return {"address": address, "both": False}
        if self.options.flag(options.IPV6_V6ONLY):
            return {"address": (LOCAL6, address[1]), "both": False}
        return {"address": address, "both": True}

    def shut_listener(self, fd: int) -> None:
        """The listener listens no more: whoever waits in accept is woken with EINVAL, what waits for it is reset."""
        if not self.tell("shut_read"):  # another process did it before
            raise os_error(errno.ENOTCONN)
        with View(fd) as view:
            view.shutdown(stdlib.SHUT_RD)
        self.phase = SHUT
        for waiting in _unaccepted(fd):
            found = recognize(waiting, self.find_token, engine_runs=True)
            if found is not None:
                with contextlib.suppress(OSError):
                    found.set_option(*options.SO_LINGER, options.LINGER.pack(1, 0))
            os.close(waiting)

    def connect(self, fd: int, remote: Address) -> None:
        """Connect within the socket's timeout. Linux's errnos; TimeoutError."""
        phase = self.look(fd)
        timeout = self.timeout
        end = time.monotonic() + (timeout or 0)
        if phase == CONNECTED and not self.announced:
            self.announced = True
            return
        if phase in (CONNECTED, LISTENING):
            raise os_error(errno.EISCONN)
        if phase == FAILED:
            self._announce_failure(fd, known=self.announced)
        if phase != CONNECTING:
            self.begin(fd, remote)
            if timeout == 0:
                raise os_error(errno.EINPROGRESS)
        elif timeout is not None:
            raise os_error(errno.EALREADY)
        if self.wait(fd, None if timeout is None else max(0.0, end - time.monotonic())) != CONNECTED:
            self._announce_failure(fd, known=False)
        self.announced = True

    def _announce_failure(self, fd: int, *, known: bool) -> None:
        """Raise why the connect failed, unless that is ``known``; the socket is as before it.

        ECONNABORTED if somebody else has taken the error (as Linux).
        """
        number = self.take_error()
        self.renew(fd)
        self.announced = True
        if number or not known:
            raise os_error(number or errno.ECONNABORTED)

    def begin(self, fd: int, remote: Address) -> None:
        """Begin to connect. The errors that need no network are raised here, and the socket is as before.

        An engine that does not answer in time has the request all the same: those errors are then pending ones.
        """
        if not self.token:
            self.token = self.find_token()
        words = {"remote": remote, "options": self.options.dump(), "place": self._opened_here()}
        try:
            with View(fd) as view:
                request = messages.connect_request(words, view.getsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF))
                messages.connect(view, messages.data_name(self.token))
                with contextlib.suppress(BrokenPipeError):  # turned away: the answer below says why
                    view.send(request)
        except ConnectionRefusedError:
            raise StackError(GONE) from None
        try:
            answer = self.call("started", None if self.timeout is None else self.timeout or MOMENT)
        except (TimeoutError, BlockingIOError):
            answer = {"local": self.local}
        except OSError:
            self.phase = FAILED  # should there be no descriptor for a fresh one
            with contextlib.suppress(OSError):
                self.renew(fd)
            raise
        self.local, self.remote = pair(answer["local"]), pair(answer.get("remote", remote))
        self.queue = answer.get("queue", self.queue)
        self.phase, self.announced = CONNECTING, False

    def accepted(self) -> None:
        """The program has just accepted it. An engine in this process finds out where when it wants to know; another
        one is told only in development mode (``-X dev``), for it costs a question."""
        place = self._opened_here()
        if DEVELOPMENT:
            with contextlib.suppress(OSError):
                self.call("opened", place=place)

    def _opened_here(self) -> str:
        """Note where the program opens it; for a message."""
        self.opened_by = here()
        return brief(self.opened_by)

    def renew(self, fd: int) -> None:
        """Put a fresh AF_UNIX socket under ``fd``: after a failed connect TCP's is like new, AF_UNIX's is not."""
        blocking = os.get_blocking(fd)
        new, ident = messages.create(six=self.six, token=self.token)
        try:
            os.dup2(new, fd, os.get_inheritable(fd))
        finally:
            os.close(new)
        os.set_blocking(fd, blocking)
        if self.options.flag(options.SO_OOBINLINE):
            with View(fd) as view:
                view.setsockopt(*options.SO_OOBINLINE, 1)
        _known.pop(self.ident, None)
        _known[ident] = self
        self.ident, self.phase, self.remote = ident, FRESH, None
        bound, self.bound, self.local = self.bound, None, NOWHERE
        if bound is not None:
            with contextlib.suppress(OSError):
                self.bind(bound)

    def closed(self) -> None:
        """A descriptor was closed: tell what the engine cannot see by itself, wait if SO_LINGER says so."""
        if self.phase == FRESH or self.dead:
            return
        on, seconds = self.options.linger
        try:
            if self.phase in (HELD, LISTENING) or self.shut_read:
                self.told = True
                self.call("gone", messages.BRIEF)  # it is done even if nobody waits for it
            if on and seconds >= 0 and self.phase == CONNECTED:
                self.call("linger", seconds + messages.PATIENCE, seconds=seconds)
        except OSError as error:  # the engine is gone, and with it everything that was to be told
            self.dead = isinstance(error, StackError)  # or it finds out by itself

    def __del__(self) -> None:
        """Its last object was collected, perhaps without having been closed: a port is free again all the same."""
        if self.phase in (HELD, LISTENING) and not (self.told or self.dead or sys.is_finalizing()):
            with contextlib.suppress(OSError):
                self.call("gone", messages.BRIEF)

    # -- options -----------------------------------------------------------------------------------------------------

    def set_option(self, level: int, name: int, value: int | bytes) -> None:
        """Linux's errnos, ENOPROTOOPT for what is not here."""
        if level == _socket.IPPROTO_IPV6 and not self.six:
            raise os_error(errno.ENOPROTOOPT)
        if (level, name) == options.IPV6_V6ONLY and self.phase != FRESH:
            raise os_error(errno.EINVAL)
        self.options.set(level, name, value)
        if self.phase != FRESH:
            self.tell("set", level=level, name=name, value=value if isinstance(value, int) else value.hex())

    def option(self, fd: int, level: int, name: int) -> bytes:
        """An option's value; SO_ERROR is taken by it."""
        phase = self.look(fd)
        if level == _socket.IPPROTO_IPV6 and not self.six:
            raise os_error(errno.EOPNOTSUPP)
        if level == _socket.SOL_SOCKET:
            if name == _socket.SO_ERROR:
                number = self.take_error() if phase in (CONNECTED, FAILED) else 0
                with View(fd) as view:
                    view.getsockopt(level, name)  # AF_UNIX's own is news of the same event
                return options.INT.pack(number)
            told = {
                _socket.SO_TYPE: int(_socket.SOCK_STREAM),
                stdlib.SO_DOMAIN: int(_socket.AF_INET6 if self.six else _socket.AF_INET),
                stdlib.SO_PROTOCOL: int(_socket.IPPROTO_TCP),
                _socket.SO_ACCEPTCONN: int(phase == LISTENING),
            }.get(name)
            if told is not None:
                return options.INT.pack(told)
        if phase != FRESH:
            try:
                return bytes.fromhex(self.call("get", level=level, name=name)["value"])
            except OSError as error:
                if error.errno != errno.ESRCH:
                    raise
        if (level, name) == options.TCP_INFO:
            return options.tcp_info(None, State.CLOSED, 0)
        return self.options.get(level, name, _DEFAULTS)


_known: "Final[weakref.WeakValueDictionary[str, Endpoint]]" = weakref.WeakValueDictionary()


def _note_sharing() -> None:
    for found in list(_known.values()):
        found.shared = True


os.register_at_fork(before=_note_sharing)


def place_of(ident: str) -> Place | None:
    """Where this process has opened the socket ``ident``, if it has."""
    found = _known.get(ident)
    return None if found is None else found.opened_by


def recognize(fd: int, find_token: Callable[[], str], engine_runs: bool) -> Endpoint | None:
    """What is known, or can be told from its names, of a descriptor that came from elsewhere; None: the kernel's."""
    own, peer = messages.names(fd)
    if peer is not None and peer.kind in ("b", "dead"):
        found = _known.get(peer.ident)
        if found is None:
            found = Endpoint(peer.ident, find_token, peer.token, CONNECTED)
            found.dead = peer.kind == "dead"
            found.local, found.remote = peer.local or NOWHERE, peer.remote
        return found
    if own is None or own.kind != "a":
        return None
    found = _known.get(own.ident)
    if found is not None:
        return found
    found = Endpoint(own.ident, find_token)
    found.discover(fd, peer, engine_runs=engine_runs)
    return found


def pair(address: Iterable[Any]) -> Address:
    """An address as a message carries it, as a tuple."""
    host, port = address
    return str(host), int(port)


def _unaccepted(fd: int) -> Iterator[int]:
    """Take what waits in the accept queue of ``fd``, which is shut or does not block, out of it."""
    with View(fd) as view, contextlib.suppress(OSError):
        while True:
            yield view._accept()[0]  # type: ignore[attr-defined]


def _poll(fd: int, timeout: float | None) -> int:
    """What poll(2) says about ``fd`` within ``timeout`` seconds (None: for ever)."""
    return messages.wait(fd, _READY, timeout)
