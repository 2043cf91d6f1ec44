"""The drop-in for the standard ``socket`` module: TCP over IPv4 goes through usertcp, everything else to the kernel.

A :class:`socket` is a real subclass of the standard class, and its descriptor is one end of an AF_UNIX stream that
carries the data; the engine holds the other end and moves bytes between it and the connection. So recv, send,
timeouts, non-blocking mode, select, epoll, asyncio, makefile, dup, detach, sendfile and the C ``ssl`` module are the
kernel's own. What is left to this module is what the kernel cannot know: names, set-up, options and errors::

    import usertcp.socket as socket

    with socket.engine(tap="tap0", address="10.9.0.2/24"):
        with socket.create_connection(("10.9.0.1", 80)) as s:
            s.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")

Without :func:`engine`, or after :func:`configure`, an engine is started when a socket first needs one, and closed
when the program ends. Errors are those of Linux. Code in C that reads the descriptor itself sees the end of the
stream where Python sees ECONNRESET. UDP, AF_UNIX, raw sockets, IPv6 other than TCP, and foreign descriptors are the
kernel's. Of TCP over IPv6 there is ``::1``, ``::`` and mapped addresses (:mod:`usertcp.driver.addresses`). How the
two ends talk is in :mod:`usertcp.driver.messages`.

No public method calls another public method of ``self``: subclasses such as ``ssl.SSLSocket`` override them.
"""

import _socket
import errno
import operator
import os
import socket as stdlib
import types
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Self

from usertcp.driver import messages, options
from usertcp.driver.addresses import NOWHERE, presented, resolve
from usertcp.driver.endpoint import (
    CONNECTED,
    CONNECTING,
    FAILED,
    FRESH,
    HELD,
    LISTENING,
    MIN_SNDBUF,
    SHUT,
    Endpoint,
    recognize,
)
from usertcp.driver.forking import ForkLock
from usertcp.driver.local import LINGER, LocalEngine
from usertcp.driver.messages import GONE, Address
from usertcp.driver.open import LinkSpec, OpenStack, open_stack
from usertcp.driver.threaded import ThreadedEngine
from usertcp.errors import StackError, os_error
from usertcp.link.base import Link
from usertcp.net.stack import Stack, StackConfig
from usertcp.tcp.config import TcpConfig

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

ENVIRONMENT: Final = "USERTCP_ENGINE"  # names the file of an engine that sockets are to use

_C: Final = _socket.socket  # the methods that touch the descriptor
# The standard one, in whose place usertcp.patching puts ours.
_standard_init: Final[Any] = getattr(stdlib.socket.__init__, "__wrapped__", stdlib.socket.__init__)
_standard_repr: Final = stdlib.socket.__repr__
_IGNORED: Final = (1, 2)  # SCM_RIGHTS, SCM_CREDENTIALS
_FAMILIES: Final = (stdlib.AF_INET, stdlib.AF_INET6)
_OURS: Final = (0, _socket.IPPROTO_TCP)
_NATIVE: Final = frozenset(  # what the descriptor itself knows, and AF_UNIX does as TCP
    {(_socket.SOL_SOCKET, number) for number in (18, 19, 20, 21)}  # SO_RCVLOWAT, SO_SNDLOWAT, SO_RCVTIMEO, SO_SNDTIMEO
)


# -- engines ---------------------------------------------------------------------------------------------------------


class Handle:
    """An engine, as programs use it. As a context manager it is what new sockets use within the block, in every thread.

    ``token``   its name among all engines
    ``abroad``  it lives in another namespace, and so must its sockets from their birth
    """

    abroad = False

    def __init__(self, whereabouts: LocalEngine[Any] | messages.Door) -> None:
        self.token = whereabouts.token
        self._whereabouts = whereabouts
        self._previous: Handle | None = None

    @property
    def alive(self) -> bool:
        """Whether sockets can still use it."""
        return self._whereabouts.alive

    @property
    def address(self) -> str:
        """The first address of its stack."""
        return self._whereabouts.address

    @property
    def kernel_address(self) -> str | None:
        """The address of the kernel's side of its device, where there is one."""
        return self._whereabouts.kernel_address

    @property
    def netns(self) -> str | None:
        """The network namespace of its device."""
        return self._whereabouts.netns

    def make_socket(self, family: int = -1, type: int = -1, proto: int = -1) -> "socket":
        """A socket that uses this engine, whichever is current."""
        sock = socket.__new__(socket)
        _begin(sock, family, type, proto, self.token)
        return sock

    def create_connection(self, address: Address, timeout: float | None = None) -> "socket":
        """A connection through this engine."""
        sock = self.make_socket()
        try:
            sock.settimeout(timeout)
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        """New sockets do not use it any more. Harmless when repeated."""
        global _current  # noqa: PLW0603
        if _current is self:
            _current = self._previous

    def __enter__(self) -> Self:
        global _current
        self._previous, _current = _current, self
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Engine(Handle):
    """A stack on a link, run by a thread of its own."""

    def __init__(self, stack: Stack, link: Link, opened: OpenStack | None = None) -> None:
        """Started at once. ``link`` is the caller's, unless it comes with ``opened``."""
        self.local = ThreadedEngine(stack, link, opened)
        self.stack = stack
        super().__init__(self.local)

    def call(self, function: Any, *args: Any) -> Any:
        """Run ``function(*args)`` in the engine's thread, the only one that may touch the stack."""
        return self.local.call(function, *args)

    def close(self, linger: float = LINGER) -> None:
        """Deliver what was sent, at most ``linger`` seconds long, and stop. Harmless when repeated.

        Sockets that are still open get ENETDOWN.
        """
        super().close()
        self.local.close(linger)


class LoopEngine(Handle):
    """A stack on a link, run by the running asyncio loop, without a thread: its sockets are for that loop's thread.

    Use it in an ``async with`` statement. What blocks in recv or accept blocks the loop, and the engine with it.
    """

    def __init__(self, stack: Stack, link: Link, opened: OpenStack | None = None) -> None:
        """Started at once. ``link`` is the caller's, unless it comes with ``opened``."""
        from usertcp.driver.looped import LoopedEngine

        self.local = LoopedEngine(stack, link, opened)
        self.stack = stack
        super().__init__(self.local)

    async def aclose(self, linger: float = LINGER) -> None:
        """Deliver what was sent, at most ``linger`` seconds long, and stop. Harmless when repeated.

        Sockets that are still open get ENETDOWN.
        """
        self.close()
        await self.local.close(linger)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Attachment(Handle):
    """An engine that runs as a process of its own (``usertcp engine``) and has let this program in."""

    def __init__(self, path: str) -> None:
        door = messages.attach(path)
        self.abroad = door.abroad
        super().__init__(door)


_current: Handle | None = None
_configured: dict[str, Any] = {}
_starting: Final = ForkLock()


def engine(
    spec: LinkSpec | None = None, *, config: StackConfig | None = None, tcp: TcpConfig | None = None, **words: Any
) -> Engine:
    """An engine on the link that ``spec``, or ``words`` of one (``tap=``, ``address=`` ...), asks for.

    Use it in a ``with`` statement. SetupError, with cause and cure, when the link cannot be had.
    """
    opened = open_stack(spec, config=config, tcp=tcp, **words)
    try:
        return Engine(opened.stack, opened.link, opened)
    except BaseException:
        opened.close()
        raise


def loop_engine(
    spec: LinkSpec | None = None, *, config: StackConfig | None = None, tcp: TcpConfig | None = None, **words: Any
) -> LoopEngine:
    """The same on the running asyncio loop, without a thread. Use it in an ``async with`` statement."""
    opened = open_stack(spec, config=config, tcp=tcp, **words)
    try:
        return LoopEngine(opened.stack, opened.link, opened)
    except BaseException:
        opened.close()
        raise


def attach(path: str | os.PathLike[str]) -> Attachment:
    """The engine that runs as a process of its own, ``usertcp engine --socket PATH``. It goes on when this is closed.

    Use it in a ``with`` statement. SetupError, with cause and cure, when it is not there or does not let this user in.
    """
    return Attachment(os.fspath(path))


def configure(spec: LinkSpec | None = None, **words: Any) -> None:
    """What :func:`engine` is to be called with when a socket first needs an engine."""
    _configured.clear()
    _configured.update(words, spec=spec)


def current_engine() -> Handle:
    """The engine of new sockets. If there is none: the one whose file the environment names, or one is started."""
    global _current  # noqa: PLW0603
    _attach_if_told()
    with _starting:
        if _current is None:
            _current = engine(**_configured)
        return _current


def _attach_if_told() -> None:
    """Use the engine that the environment names, unless there is another."""
    global _current  # noqa: PLW0603
    if _current is None and not _configured and (path := os.environ.get(ENVIRONMENT)):
        with _starting:
            _current = _current or attach(path)


def _token() -> str:
    return current_engine().token


# -- the class -------------------------------------------------------------------------------------------------------


class socket(stdlib.socket):
    """``socket(family=AF_INET, type=SOCK_STREAM, proto=0, fileno=None)``, as in the standard module."""

    __slots__ = ("_tcp",)

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        self._tcp: Endpoint | None = None
        if fileno is not None:
            ours = family in (-1, *_FAMILIES) and isinstance(fileno, int) and fileno >= 0
            if ours:
                _attach_if_told()
            tcp = recognize(fileno, _token, _current is not None) if ours else None
            if tcp is None:
                _standard_init(self, family, type, proto, fileno)
                return
            self._tcp = tcp
            _standard_init(
                self, _FAMILIES[tcp.six], _socket.SOCK_STREAM, _socket.IPPROTO_TCP if proto == -1 else proto, fileno
            )
            return
        _begin(self, family, type, proto)

    def __repr__(self) -> str:
        text, tcp = _standard_repr(self), self._tcp
        return text if tcp is None or tcp.opened_by is None else f"{text[:-1]}, opened at {tcp.opened_by}>"

    # -- set-up ------------------------------------------------------------------------------------------------------

    def bind(self, address: Any, /) -> None:
        tcp = self._tcp
        if tcp is None:
            _C.bind(self, address)
            return
        local = resolve(address, "bind", tcp.six)
        fd = _fd(self, tcp)
        if tcp.look(fd) == FAILED:
            tcp.renew(fd)
        if tcp.phase != FRESH:
            raise os_error(errno.EINVAL)
        tcp.bind(local)

    def listen(self, backlog: int = min(_socket.SOMAXCONN, 128), /) -> None:
        tcp = self._tcp
        if tcp is None:
            _C.listen(self, backlog)
            return
        fd = _fd(self, tcp)
        phase = tcp.look(fd)
        if phase not in (FRESH, HELD, LISTENING):
            raise os_error(errno.EINVAL)
        _C.listen(self, backlog)
        try:
            tcp.listen(backlog)
        except OSError as error:
            if phase != LISTENING and not isinstance(error, TimeoutError | BlockingIOError):  # which may ask again
                tcp.renew(fd)
            raise

    def accept(self) -> "tuple[socket, Any]":
        tcp = self._tcp
        if tcp is not None and tcp.dead:
            tcp.told_again(_fd(self, tcp))
            raise StackError(GONE)
        if tcp is not None and tcp.phase == SHUT:
            raise os_error(errno.EINVAL)
        made: Any = socket if isinstance(self, socket) else stdlib.socket
        while True:
            try:
                fd, address = self._accept()  # type: ignore[attr-defined]
            finally:
                if tcp is not None and _C.fileno(self) < 0:  # closed meanwhile, and this call held the last of it
                    tcp.closed()
            sock = made(self.family, self.type, self.proto, fileno=fd)
            if stdlib.getdefaulttimeout() is None and _C.gettimeout(self):
                _C.setblocking(sock, True)
            if tcp is None:
                return sock, address
            accepted = sock._tcp
            if accepted is not None and accepted is not tcp and accepted.came_by_engine(sock):
                break
            sock.close()  # somebody who found our name, but is not the engine
        if accepted.dead:
            sock.close()
            tcp.pass_on(accepted.token)
            raise StackError(GONE)
        if tcp.options.flag(options.SO_OOBINLINE):
            _C.setsockopt(sock, *options.SO_OOBINLINE, 1)
        accepted.accepted()
        return sock, presented(accepted.remote or NOWHERE, tcp.six)

    def connect(self, address: Any, /) -> None:
        tcp = self._tcp
        if tcp is None:
            _C.connect(self, address)
        else:
            remote = resolve(address, "connect", tcp.six)
            tcp.connect(_fd(self, tcp), remote)

    def connect_ex(self, address: Any, /) -> int:
        tcp = self._tcp
        if tcp is None:
            return _C.connect_ex(self, address)
        try:
            remote = resolve(address, "connect_ex", tcp.six)
            tcp.connect(_fd(self, tcp), remote)
        except TimeoutError as error:
            return error.errno or errno.EAGAIN
        except stdlib.gaierror:
            raise
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    # -- data --------------------------------------------------------------------------------------------------------

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        tcp = self._tcp
        if flags and tcp is not None:
            _may_receive(flags)
        try:
            data = _C.recv(self, bufsize, flags)
        except OSError as error:
            if tcp is None:
                raise
            tcp.receiving_failed(error, flags, _C.gettimeout(self))
            return b""
        if not data and tcp is not None and bufsize:
            tcp.end_of_stream(_C.gettimeout(self))
        return data

    def recv_into(self, buffer: "WriteableBuffer", nbytes: int = 0, flags: int = 0) -> int:
        tcp = self._tcp
        if flags and tcp is not None:
            _may_receive(flags)
        try:
            count = _C.recv_into(self, buffer, nbytes, flags)
        except OSError as error:
            if tcp is None:
                raise
            tcp.receiving_failed(error, flags, _C.gettimeout(self))
            return 0
        if not count and tcp is not None and memoryview(buffer).nbytes:
            tcp.end_of_stream(_C.gettimeout(self))
        return count

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        if self._tcp is None:
            return _C.recvfrom(self, bufsize, flags)
        return socket.recv(self, bufsize, flags), None

    def recvfrom_into(self, buffer: "WriteableBuffer", nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        if self._tcp is None:
            return _C.recvfrom_into(self, buffer, nbytes, flags)
        return socket.recv_into(self, buffer, nbytes, flags), None

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
        tcp = self._tcp
        if tcp is None:
            return _C.recvmsg(self, bufsize, ancbufsize, flags)
        _may_receive(flags)
        try:
            data, _, result, _ = _C.recvmsg(self, bufsize, ancbufsize, flags)
        except OSError as error:
            tcp.receiving_failed(error, flags, _C.gettimeout(self))
            return b"", [], 0, None
        if not data and bufsize:
            tcp.end_of_stream(_C.gettimeout(self))
        return data, [], result, None

    def recvmsg_into(
        self, buffers: "Iterable[WriteableBuffer]", ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[Any], int, Any]:
        tcp = self._tcp
        if tcp is None:
            return _C.recvmsg_into(self, buffers, ancbufsize, flags)
        _may_receive(flags)
        kept = list(buffers)
        try:
            count, _, result, _ = _C.recvmsg_into(self, kept, ancbufsize, flags)
        except OSError as error:
            tcp.receiving_failed(error, flags, _C.gettimeout(self))
            return 0, [], 0, None
        if not count and any(memoryview(buffer).nbytes for buffer in kept):
            tcp.end_of_stream(_C.gettimeout(self))
        return count, [], result, None

    def send(self, data: "ReadableBuffer", flags: int = 0, /) -> int:
        tcp = self._tcp
        if tcp is None:
            return _C.send(self, data, flags)
        if flags or tcp.phase != CONNECTED:
            _may_send(self, tcp, flags)
        try:
            return _C.send(self, data, flags)
        except (BrokenPipeError, ConnectionResetError):
            raise tcp.why_not_sent(_C.gettimeout(self)) from None

    def sendall(self, data: "ReadableBuffer", flags: int = 0, /) -> None:
        tcp = self._tcp
        if tcp is None:
            _C.sendall(self, data, flags)
            return
        if flags or tcp.phase != CONNECTED:
            _may_send(self, tcp, flags)
        try:
            _C.sendall(self, data, flags)
        except (BrokenPipeError, ConnectionResetError):
            raise tcp.why_not_sent(_C.gettimeout(self)) from None

    def sendto(self, data: "ReadableBuffer", *rest: Any) -> int:
        tcp = self._tcp
        if tcp is None or not 1 <= len(rest) <= 2:
            return _C.sendto(self, data, *rest)
        resolve(rest[-1], "sendto", tcp.six)  # the address of a stream is ignored, but must be one
        return socket.send(self, data, rest[0] if len(rest) == 2 else 0)

    def sendmsg(
        self, buffers: "Iterable[ReadableBuffer]", ancdata: Iterable[Any] = (), flags: int = 0, address: Any = None, /
    ) -> int:
        tcp = self._tcp
        if tcp is None:
            return _C.sendmsg(self, buffers, ancdata, flags, *(() if address is None else (address,)))
        _check_ancillary(ancdata)
        if address is not None:
            resolve(address, "sendmsg", tcp.six)
        if flags or tcp.phase != CONNECTED:
            _may_send(self, tcp, flags)
        try:
            return _C.sendmsg(self, buffers, (), flags)
        except (BrokenPipeError, ConnectionResetError):
            raise tcp.why_not_sent(_C.gettimeout(self)) from None

    # -- the end -----------------------------------------------------------------------------------------------------

    def shutdown(self, how: int, /) -> None:
        tcp = self._tcp
        how = operator.index(how)
        if tcp is None or not stdlib.SHUT_RD <= how <= stdlib.SHUT_RDWR:
            _C.shutdown(self, how)
            return
        fd = _fd(self, tcp)
        phase = tcp.look(fd)
        if phase in (FRESH, HELD, FAILED) or (phase == CONNECTED and tcp.over(fd)):
            raise os_error(errno.ENOTCONN)
        if phase == LISTENING:
            if how != stdlib.SHUT_WR:
                tcp.shut_listener(fd)
            return
        if phase == CONNECTING:  # is given up, as on Linux; a thread that waits for it renews the descriptor
            tcp.tell("shut_read")
            tcp.announced = True
            return
        if how != stdlib.SHUT_WR:
            tcp.shut_read = tcp.tell("shut_read")
        if how != stdlib.SHUT_RD:
            _C.shutdown(self, stdlib.SHUT_WR)

    def _real_close(self, _ss: Any = _socket.socket) -> None:
        tcp = getattr(self, "_tcp", None)
        open_ = _ss.fileno(self) >= 0
        _ss.close(self)
        if tcp is not None and open_:
            tcp.closed()

    # -- names and options -------------------------------------------------------------------------------------------

    def getsockname(self) -> Any:
        tcp = self._tcp
        if tcp is None:
            return _C.getsockname(self)
        return presented(tcp.where(_fd(self, tcp)), tcp.six)

    def getpeername(self) -> Any:
        tcp = self._tcp
        if tcp is None:
            return _C.getpeername(self)
        fd = _fd(self, tcp)
        if tcp.look(fd) != CONNECTED or tcp.over(fd):
            raise os_error(errno.ENOTCONN)
        return presented(tcp.remote or NOWHERE, tcp.six)

    def getsockopt(self, level: int, optname: int, buflen: int = 0, /) -> Any:
        tcp = self._tcp
        if tcp is None or (level, optname) in _NATIVE or not 0 <= buflen <= 1024:
            return _C.getsockopt(self, level, optname, buflen) if buflen else _C.getsockopt(self, level, optname)
        value = tcp.option(_fd(self, tcp), operator.index(level), operator.index(optname))
        if buflen:
            return value[: 1 if level == _socket.IPPROTO_IP and buflen < options.INT.size else buflen]
        return options.INT.unpack(value[: options.INT.size])[0]

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int | None = None, /) -> None:
        tcp = self._tcp
        if tcp is None or (level, optname) in _NATIVE or value is None or optlen is not None:
            _C.setsockopt(self, level, optname, *((value,) if optlen is None else (value, optlen)))
            return
        _fd(self, tcp)
        number = operator.index(value) if hasattr(value, "__index__") else None
        value = bytes(memoryview(value)) if number is None or not -(1 << 31) <= number < 1 << 31 else number
        tcp.set_option(operator.index(level), operator.index(optname), value)
        if (level, optname) == options.SO_OOBINLINE:
            _C.setsockopt(self, level, optname, value)
        elif (level, optname) == options.SO_SNDBUF and isinstance(value, int) and tcp.phase != CONNECTING:
            most = messages.BULK if tcp.phase == CONNECTED else messages.BUFFER
            _C.setsockopt(self, level, optname, min(max(value, MIN_SNDBUF), most))


# -- what the methods do ---------------------------------------------------------------------------------------------


def _fd(sock: socket, tcp: Endpoint) -> int:
    """The descriptor, of ``tcp``, which is asked by the timeout of ``sock`` from now on; EBADF if it is closed."""
    fd = _C.fileno(sock)
    if fd < 0:
        raise os_error(errno.EBADF)
    tcp.timeout = _C.gettimeout(sock)
    return fd


def _begin(sock: socket, family: int, type: int, proto: int, token: str = "") -> None:
    """Make what is to be ``sock``; of the engine ``token``, or "" if that may become known when one is needed."""
    sock._tcp = None
    family = _socket.AF_INET if family == -1 else family
    type = _socket.SOCK_STREAM if type == -1 else type
    proto = 0 if proto == -1 else proto
    flags = stdlib.SOCK_NONBLOCK | stdlib.SOCK_CLOEXEC
    if type & ~flags != _socket.SOCK_STREAM or proto not in _OURS or family not in _FAMILIES:
        _standard_init(sock, family, type, proto)
        return
    if not token:
        _attach_if_told()
        token = _current.token if _current is not None and _current.abroad else ""
    fd, ident = messages.create(type & stdlib.SOCK_NONBLOCK, six=family == stdlib.AF_INET6, token=token)
    sock._tcp = Endpoint(ident, _token, token)
    _standard_init(sock, family, type, proto, fd)


def _may_receive(flags: int) -> None:
    """TCP has a queue of errors apart from the data, always empty here; AF_UNIX would take the flag for none."""
    if flags & stdlib.MSG_ERRQUEUE:
        raise os_error(errno.EAGAIN)


def _may_send(sock: socket, tcp: Endpoint, flags: int) -> None:
    """Refuse what AF_UNIX would take and TCP would not; announce what is urgent."""
    fd = _fd(sock, tcp)
    if flags & stdlib.MSG_FASTOPEN:
        raise os_error(errno.EOPNOTSUPP)
    phase = tcp.look(fd)
    if phase == CONNECTING:
        timeout = _C.gettimeout(sock)
        if timeout == 0 or flags & stdlib.MSG_DONTWAIT:
            raise os_error(errno.EAGAIN)
        phase = tcp.wait(fd, timeout)
    if phase in (FRESH, HELD, LISTENING):
        raise os_error(errno.EPIPE)
    if flags & stdlib.MSG_OOB:
        tcp.tell("urgent")


def _check_ancillary(ancdata: Iterable[Any]) -> None:
    """TCP passes nothing on: what it ignores is dropped, anything else is refused (as Linux)."""
    for item in ancdata:
        if not isinstance(item, tuple) or len(item) != 3:
            raise TypeError("[sendmsg() ancillary data items] must be sequence of length 3")
        level, kind = map(operator.index, item[:2])
        memoryview(item[2])
        if level == stdlib.SOL_SOCKET and kind not in _IGNORED:
            raise os_error(errno.EINVAL)


# -- the rest of the standard module ---------------------------------------------------------------------------------


def _adopt() -> None:
    """Every other name of the standard module; its functions that make sockets make ours."""
    ours = globals()
    for name, value in vars(stdlib).items():
        ours.setdefault(name, value)
    for name in ("create_connection", "create_server", "fromfd", "has_dualstack_ipv6", "socketpair"):
        function = getattr(stdlib, name)
        adopted = types.FunctionType(function.__code__, ours, name, function.__defaults__, function.__closure__)
        adopted.__kwdefaults__ = function.__kwdefaults__
        adopted.__doc__ = function.__doc__
        ours[name] = adopted
    ours["__all__"] = [
        *stdlib.__all__,
        "Attachment",
        "Engine",
        "Handle",
        "LoopEngine",
        "attach",
        "configure",
        "current_engine",
        "engine",
        "loop_engine",
    ]


_adopt()

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
