"""What the drop-in socket and its engine say to each other, and by which names they find each other.

Everything travels over AF_UNIX, so that an engine in a thread, on a loop or in a process of its own, and a child after
fork, are one path. An engine with the token ``T`` owns two abstract names:

    \\0usertcp/T/data      stream      a program's socket connects here; the engine's end carries one connection's bytes
    \\0usertcp/T/control   seqpacket   one request, one answer, both JSON

An engine that is a process of its own has a third, a file, where programs are let in; it is spoken to as ``control``
is. Abstract names belong to a network namespace, and know no permissions. A program in another network or user
namespace than its engine therefore asks at the file, and has the engine make its sockets; see :func:`attach`.

The identity of a socket is in the kernel too, where dup, detach, fork and SCM_RIGHTS preserve it:

    \\0usertcp/a/ID                    own name of a program's socket, given at its birth; a listener is reached by it
    \\0usertcp/T/b/ID/LOCAL/REMOTE     the engine's end of an accepted connection: the peer name of the program's end
    \\0usertcp/T/dead/ID              a connection that wakes accept() because the engine is gone

An ID begins with the number of the user who made the socket, which the engine compares with what the kernel says of
the one who asks (SO_PEERCRED), and goes on with the inode of the program's socket, so that whoever takes its name once
it is gone is not mistaken for it. That of an AF_INET6 socket ends in "v6".

``LOCAL`` and ``REMOTE`` are address and port bytes in hex. A name dies with the last descriptor of its socket, which
tells the engine that a listener is gone, however it went.

**Connecting.** A stream socket of AF_UNIX is writable while four times what it has sent and the peer has not read is at
most SO_SNDBUF. The connect request is therefore padded beyond a quarter of it: until the engine reads the padding away,
the program's end is neither readable nor writable, as a connecting TCP socket is.

An engine's thread must not ask: nobody would answer. It may come to it all the same, when the interpreter collects a
program's forgotten socket there, which warns and closes; that is EDEADLK. A thread that runs an engine now and then, on
an asyncio loop, turns it while it waits.

Beside which threads those are, and which engines have let the program in, this module holds no state; it knows nothing
of stacks.
"""

import _socket
import contextlib
import errno
import json
import os
import re
import select
import socket as stdlib
import struct
import threading
import time
from collections.abc import Callable, Iterator
from operator import index
from typing import Any, Final, NamedTuple, Protocol

from usertcp.errors import SetupError, StackError, os_error
from usertcp.units import MS, NEVER, SEC, from_seconds

VERSION: Final = 1  # of what is said here; a program and its engine must mean the same

SIX: Final = "v6"
PREFIX: Final = b"\0usertcp/"
LENGTH: Final = struct.Struct("=I")  # before a connect request: its bytes, without this word and the padding
DESCRIPTOR: Final = struct.Struct("=i")
CREDENTIALS: Final = struct.Struct("=3i")  # struct ucred: process, user, group
BUFFER: Final = 32 << 10  # SO_SNDBUF of a program's end before it is connected, bytes; the kernel doubles it
BULK: Final = 256 << 10  # of both ends afterwards, if TCP's buffer may become as large: fewer, larger pieces
MESSAGE: Final = 64 << 10  # a control message is smaller, bytes
PATIENCE: Final = 30.0  # seconds for the answer of an engine that is alive
BRIEF: Final = 2.0  # seconds for it that a socket has which is not to wait, or not for long
LONGEST: Final = 3600 * SEC  # ns that a wait with an end lasts at most; poll(2) counts milliseconds in an int
CONNECT_TRIES: Final = 200  # times, 5 ms apart, that a full queue of the engine is tried
WAKES: Final = 64  # connections that a dead engine's guard puts into an accept queue at most
OVERFLOW: Final = 65534  # Linux's DEFAULT_OVERFLOWUID
EVERYBODY: Final = ["0", "0", "4294967295"]  # the uid_map of a user namespace that knows all
GONE: Final = "the engine of this socket is gone"

# What a message that is none makes those raise who read it.
MALFORMED: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

_ADDRESS: Final = re.compile(r"[0-9a-f]{12}")  # and the port

# The user, the inode, and what makes it unlike any other.
_IDENT: Final = re.compile(r"([0-9a-f]{1,8})\.([0-9a-f]{1,8})\.[0-9a-f]{16}(?:v6)?")


class Turned(Protocol):
    """An engine that a thread with other things to do runs now and then."""

    def fileno(self) -> int:
        """Polls readable when there is something to do."""
        ...

    def timeout_ns(self) -> int:
        """When there is something to do although nothing comes in; NEVER."""
        ...

    @property
    def turn(self) -> Callable[[], None]:
        """What does it."""
        ...


class _Duty(threading.local):
    """What the calling thread does for engines: it is one's, ``always`` or only now (``turning``); it turns these."""

    always = False
    turning = False
    engines: tuple[Turned, ...] = ()


_duty: Final = _Duty()


Address = tuple[str, int]
Message = dict[str, Any]


class Name(NamedTuple):
    """An abstract name, taken apart. ``kind``: "a", "b", "data", "control" or "dead"."""

    kind: str
    token: str = ""
    ident: str = ""
    local: Address | None = None
    remote: Address | None = None


def data_name(token: str) -> bytes:
    return PREFIX + f"{token}/data".encode()


def control_name(token: str) -> bytes:
    return PREFIX + f"{token}/control".encode()


def own_name(ident: str) -> bytes:
    """The name of a program's socket."""
    return PREFIX + f"a/{ident}".encode()


def peer_name(token: str, ident: str, local: Address, remote: Address) -> bytes:
    """The name of the engine's end of an accepted connection."""
    return PREFIX + f"{token}/b/{ident}/{_pack(local)}/{_pack(remote)}".encode()


def dead_name(token: str, ident: str) -> bytes:
    """The name of a connection that says: the engine is gone."""
    return PREFIX + f"{token}/dead/{ident}".encode()


def parse_name(raw: object) -> Name | None:
    """Take ``raw`` (what getsockname or getpeername gave) apart; None if it is no name of ours: anybody may choose one
    that looks like it."""
    if not isinstance(raw, bytes) or not raw.startswith(PREFIX):
        return None
    parts = raw[len(PREFIX) :].decode("ascii", "replace").split("/")
    match parts:
        case ["a", ident]:
            return Name("a", ident=ident)
        case [token, "b", ident, local, remote] if _ADDRESS.fullmatch(local) and _ADDRESS.fullmatch(remote):
            return Name("b", token, ident, _unpack(local), _unpack(remote))
        case [token, "dead", ident]:
            return Name("dead", token, ident)
        case [token, ("data" | "control") as kind]:
            return Name(kind, token)
    return None


def _pack(address: Address) -> str:
    return (_socket.inet_aton(address[0]) + address[1].to_bytes(2, "big")).hex()


def _unpack(text: str) -> Address:
    raw = bytes.fromhex(text)
    return _socket.inet_ntoa(raw[:-2]), int.from_bytes(raw[-2:], "big")


def new_ident(*, six: bool = False, owner: int | None = None, inode: int = 0) -> str:
    """A fresh identity, unlike any other on this machine, of the user ``owner`` (None: ours).

    ``six``: of an AF_INET6 socket. ``inode``: of the socket that gets it for its name; 0: none does.
    """
    return f"{os.geteuid() if owner is None else owner:x}.{inode:x}.{os.urandom(8).hex()}{SIX * six}"


def owner(ident: object) -> int:
    """The user whose socket it says to be; ValueError if it is no identity."""
    return int(_parts(ident)[1], 16)


def inode(ident: object) -> int:
    """The inode that the socket says to have, 0 if it was accepted; ValueError if it is no identity."""
    return int(_parts(ident)[2], 16)


def _parts(ident: object) -> re.Match[str]:
    found = _IDENT.fullmatch(ident) if isinstance(ident, str) else None
    if found is None:
        raise ValueError("not the identity of a socket")
    return found


def is_six(ident: str) -> bool:
    """Whether the identity is that of an AF_INET6 socket."""
    return ident.endswith(SIX)


def address(value: Any) -> Address:
    """An address as a message carries it; TypeError, ValueError if it is none."""
    host, port = value
    if not isinstance(host, str) or not 0 <= index(port) <= 0xFFFF:
        raise ValueError("not an address")
    return host, index(port)


# -- a program's socket, seen as what the kernel knows it to be ------------------------------------------------------


class View:
    """The descriptor ``fd`` as an AF_UNIX stream for the length of a ``with`` block; it is not closed.

    The flags keep the constructor from touching the descriptor's blocking mode.
    """

    __slots__ = ("_sock", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __enter__(self) -> _socket.socket:
        self._sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | stdlib.SOCK_NONBLOCK, 0, self.fd)
        return self._sock

    def __exit__(self, *_: object) -> None:
        self._sock.detach()


def create(flags: int = 0, *, six: bool = False, token: str = "") -> tuple[int, str]:
    """A new program's socket: (descriptor, identity). It is named at once; by the engine ``token``, if that lives where
    a name of ours means nothing. ``flags``: SOCK_NONBLOCK or 0."""
    if token and token in _doors and _doors[token].abroad:
        answer = call(token, {"op": "socket", "six": six})
        os.set_blocking(answer["fd"], not flags)
        return answer["fd"], answer["id"]
    return make(six, flags=flags)


def make(six: bool, *, owner: int | None = None, flags: int = 0) -> tuple[int, str]:
    """A program's socket, of the user ``owner`` (None: ours): (descriptor, identity)."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | stdlib.SOCK_CLOEXEC | flags)
    try:
        sock.settimeout(0.0 if flags & stdlib.SOCK_NONBLOCK else None)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, BUFFER)
        ident = new_ident(six=six, owner=owner, inode=os.fstat(sock.fileno()).st_ino)
        sock.bind(own_name(ident))
        return sock.detach(), ident
    finally:
        sock.close()


def names(fd: int) -> tuple[Name | None, Name | None]:
    """(own name, peer name) of ``fd``, each None if it is none of ours."""
    with View(fd) as view:
        try:
            own = parse_name(view.getsockname())
        except OSError:
            own = None
        try:
            return own, parse_name(view.getpeername())
        except OSError:
            return own, None


def queue(size: int, maximum: int) -> int:
    """SO_SNDBUF of an end whose bytes go to, or come from, a TCP buffer that begins with ``size`` and has at most
    ``maximum`` bytes: who chose a small one does not want many times as much to wait in the kernel."""
    return min(max(size, maximum, BUFFER), BULK)


class Peer(NamedTuple):
    """Who has connected, or listens, at the other end of an AF_UNIX socket, as the kernel knows it."""

    process: int
    user: int


def peer(sock: _socket.socket) -> Peer:
    """Who is at the other end of a connected ``sock``."""
    raw = _socket.socket.getsockopt(sock, _socket.SOL_SOCKET, stdlib.SO_PEERCRED, CREDENTIALS.size)
    process, user, _ = CREDENTIALS.unpack(raw)
    return Peer(process, user)


def trusted(sock: _socket.socket) -> bool:
    """Whether the other end of a connected ``sock`` is ours, root's or an engine's that we were let in by."""
    there = peer(sock)
    return there.user in (0, os.geteuid()) or any(there == door.runner for door in _doors.values())


def bears_true_news(sock: _socket.socket, token: str) -> bool:
    """Whether the engine ``token`` is gone, as the other end of ``sock`` says, whoever that is; its guard, for one.

    It is asked itself, because one that is being killed may still have a name when its guard knows already.
    """
    if trusted(sock):
        return True
    door = _doors.get(token)
    try:
        _ask(door.path if door is not None and door.abroad else control_name(token), {"op": "hello"}, BRIEF)
    except (ConnectionError, FileNotFoundError):
        return True
    except OSError:  # it is there, and has no time
        return False
    return False


# -- requests --------------------------------------------------------------------------------------------------------


def connect_request(message: Message, sndbuf: int) -> bytes:
    """The first bytes on a data connection: the request, padded so that a buffer of ``sndbuf`` counts as full.

    The request itself says by ``fill`` how many bytes that are.
    """
    fill = sndbuf // 4 + 1
    body = encode(message | {"fill": fill})
    if len(body) + LENGTH.size > fill:
        raise os_error(errno.ENOBUFS)
    return (LENGTH.pack(len(body)) + body).ljust(fill, b"\0")


def parse_request(data: bytes) -> Message | None:
    """The request at the head of ``data``; None if it is not there in full yet; ValueError if it is none."""
    if len(data) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack_from(data)
    if length > MESSAGE:
        raise ValueError("not a connect request")
    if len(data) < LENGTH.size + length:
        return None
    return decode(data[LENGTH.size : LENGTH.size + length])


def encode(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def decode(data: bytes) -> Message:
    """A message from its bytes; ValueError if they are none."""
    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message


def answer_here() -> None:
    """The calling thread is an engine's from now on."""
    _duty.always = True


def turn_here(engine: Turned) -> None:
    """The calling thread turns ``engine`` while it waits for an answer."""
    _duty.engines = (*_duty.engines, engine)


def turn_no_more(engine: Turned) -> None:
    _duty.engines = tuple(other for other in _duty.engines if other is not engine)


@contextlib.contextmanager
def turning() -> Iterator[None]:
    """Within the block an engine of the calling thread has its turn."""
    _duty.turning = True
    try:
        yield
    finally:
        _duty.turning = False


def wait(fd: int, events: int, timeout: float | None) -> int:
    """What poll(2) says of ``fd`` within ``timeout`` seconds (None: for ever), 0 for nothing.

    The engines that the calling thread runs on a loop go on meanwhile.
    """
    poll = select.poll()
    poll.register(fd, events)
    if not _duty.engines or _duty.turning:
        found = poll.poll(None if timeout is None else timeout * 1000)
        return found[0][1] if found else 0
    for engine in _duty.engines:
        poll.register(engine.fileno(), select.POLLIN)
    end = NEVER if timeout is None else time.monotonic_ns() + from_seconds(timeout)
    while True:
        for engine in _duty.engines:
            engine.turn()
        left = max(0, min(end - time.monotonic_ns(), *(engine.timeout_ns() for engine in _duty.engines)))
        mask = dict(poll.poll(None if left >= LONGEST else -(-left // MS))).get(fd, 0)
        if mask or time.monotonic_ns() >= end:
            return mask


def _forget_duty() -> None:
    """In a child: the engines are the parent's."""
    _duty.always, _duty.engines = False, ()


os.register_at_fork(after_in_child=_forget_duty)


def call(token: str, message: Message, patience: float | None = None) -> Message:
    """Ask the engine ``token`` and wait for its answer; a descriptor that comes with it is its ``fd``.

    An answer that carries an ``errno`` is raised as that ``OSError``. :class:`StackError` when the engine is gone,
    or has not answered for PATIENCE; TimeoutError after the caller's own ``patience`` (seconds); EDEADLK in an engine's
    own thread.
    """
    limit = PATIENCE if patience is None else patience
    door = _doors.get(token)
    try:
        if door is not None and door.abroad:
            answer = _ask(door.path, message | {"engine": token}, limit)
        else:
            answer = _ask(control_name(token), message, limit)
    except TimeoutError:
        if patience is not None:
            raise TimeoutError("timed out") from None
        raise StackError("the engine of this socket does not answer") from None
    except (ConnectionError, FileNotFoundError):
        raise StackError(GONE) from None
    number = answer.get("errno", 0)
    if number == errno.ENETDOWN:
        raise StackError(GONE)
    if number:
        raise os_error(number)
    return answer


def _ask(name: bytes | str, message: Message, patience: float) -> Message:
    """One question to who listens at ``name``, and the answer. ConnectionError when there is none."""
    if _duty.always or _duty.turning:
        raise os_error(errno.EDEADLK)
    with Control(_socket.AF_UNIX, _socket.SOCK_SEQPACKET) as control:
        control.settimeout(patience)
        connect(control, name)
        with contextlib.suppress(BrokenPipeError):  # turned away for want of descriptors: the answer is there
            control.send(encode(message))
        if _duty.engines and not wait(control.fileno(), select.POLLIN, patience):
            raise TimeoutError
        try:
            data, fd = _receive(control)
        except ConnectionResetError:  # the same: it was closed with the request unread
            data, fd = _receive(control)
    if not data:
        raise ConnectionResetError(errno.ECONNRESET, "no answer")
    return decode(data) | ({} if fd is None else {"fd": fd})


def _receive(control: _socket.socket) -> tuple[bytes, int | None]:
    """A message and the descriptor that was passed with it. EMFILE when there was no room for that: it is closed."""
    space = _socket.CMSG_SPACE(DESCRIPTOR.size)
    data, passed, flags, _ = control.recvmsg(MESSAGE, space, stdlib.MSG_CMSG_CLOEXEC)
    if flags & stdlib.MSG_CTRUNC:
        raise os_error(errno.EMFILE)
    for level, kind, raw in passed:
        if (level, kind) == (_socket.SOL_SOCKET, stdlib.SCM_RIGHTS):
            return data, DESCRIPTOR.unpack(raw)[0]
    return data, None


def passing(fd: int) -> list[tuple[int, int, bytes]]:
    """The ancillary data that passes ``fd`` on."""
    return [(_socket.SOL_SOCKET, stdlib.SCM_RIGHTS, DESCRIPTOR.pack(fd))]


class Control(_socket.socket):
    """The C socket with the two methods of a context manager; ``socket.socket`` itself may have been replaced."""

    def __enter__(self) -> "Control":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(sock: _socket.socket, name: bytes | str) -> None:
    """Connect to an engine's listener, whose queue may be full for a moment.

    ConnectionRefusedError also when somebody else listens there: an abstract name is anybody's who takes it.
    """
    for _ in range(CONNECT_TRIES):
        try:
            sock.connect(name)
            break
        except BlockingIOError:
            select.select([], [], [], 0.005)
    else:
        raise os_error(errno.EAGAIN)
    if isinstance(name, bytes) and not trusted(sock):
        raise os_error(errno.ECONNREFUSED)


def reach(ident: str, name: bytes, queue: int) -> _socket.socket:
    """A non-blocking socket called ``name``, connected to the program's listener ``ident``."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, queue)
        sock.bind(name)
        sock.connect(own_name(ident))
    except OSError:
        sock.close()
        raise
    return sock


def wake(token: str, ident: str, most: int = WAKES) -> bool:
    """Put connections into the accept queue of ``ident`` whose names say that the engine is dead, as many as it takes.

    One is enough for all who wait, because whoever takes it puts in another; but programs in other network namespaces
    cannot. False: there was no room for any."""
    for number in range(most):
        try:
            reach(ident, dead_name(token, new_ident()), BUFFER).close()
        except BlockingIOError:
            return number > 0
        except OSError:  # the listener is gone too
            break
    return True


# -- engines in other processes --------------------------------------------------------------------------------------


class Door(NamedTuple):
    """An engine that has let this program in.

    ``token``   its name among all engines
    ``path``    of its file
    ``runner``  its process, and who runs it: more than one process may be that user's
    ``abroad``  it is in another network or user namespace, where names and numbers of ours mean nothing
    ``about``   what it said of itself
    """

    token: str
    path: str
    runner: Peer
    abroad: bool
    about: Message

    @property
    def alive(self) -> bool:
        """Whether it answers."""
        try:
            call(self.token, {"op": "hello"})
        except OSError:
            return False
        return True

    @property
    def address(self) -> str:
        """The address of its stack."""
        return str(self.about["address"])

    @property
    def kernel_address(self) -> str | None:
        """The address of the kernel's side of its device, where there is one."""
        address: str | None = self.about["kernel_address"]
        return address

    @property
    def netns(self) -> str | None:
        """The network namespace of its device."""
        netns: str | None = self.about["netns"]
        return netns


_doors: Final[dict[str, Door]] = {}  # by token


def namespace() -> list[int]:
    """What tells the network namespace of the calling thread from others."""
    try:
        found = os.stat("/proc/thread-self/ns/net")
    except OSError:  # /proc is not there: unlike any
        return []
    return [found.st_dev, found.st_ino]


def is_known(user: int) -> bool:
    """Whether ``user`` is one user, and not the number that stands for all whom our user namespace does not know
    (user_namespaces(7), *Unmapped user and group IDs*)."""
    try:
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as overflow:
            if user != int(overflow.read()):
                return True
        with open("/proc/self/uid_map", encoding="ascii") as known:
            return known.read().split() == EVERYBODY
    except OSError:  # /proc is not there
        return user != OVERFLOW


def attach(path: str) -> Door:
    """Be let in by the engine whose file is ``path``. SetupError, with cause and cure."""
    path = os.path.abspath(path)
    start = "start one: usertcp engine --socket " + path
    try:
        with Control(_socket.AF_UNIX, _socket.SOCK_SEQPACKET) as control:
            control.settimeout(PATIENCE)
            connect(control, path)
            runner = peer(control)
        about = _ask(path, {"op": "hello", "version": VERSION}, PATIENCE)
    except FileNotFoundError:
        raise SetupError(f"there is no engine at {path}: no such file", start) from None
    except PermissionError:
        raise SetupError(
            f"the engine at {path} does not let this user in", "have it started with --owner, --group or --mode for you"
        ) from None
    except ConnectionError:
        raise SetupError(f"the engine at {path} is dead", start) from None
    except TimeoutError:
        raise SetupError(
            f"the engine at {path} does not answer", "look whether it was stopped, or start it anew"
        ) from None
    except (OSError, ValueError) as error:
        cause = f"{path} is no engine's socket ({error})"
        raise SetupError(cause, "name the one that was given to: usertcp engine") from None
    if not is_known(runner.user):
        raise SetupError(
            f"who runs the engine at {path} is unknown in this user namespace, and cannot be told from others",
            "map that user into the namespace, or run the engine as one that is",
        )
    if about.get("version") != VERSION:
        raise SetupError(
            f"the engine at {path} speaks version {about.get('version')} of the protocol, and this program {VERSION}",
            "use the same usertcp for both",
        )
    abroad = not about["namespace"] or about["namespace"] != namespace() or about["user"] != os.geteuid()
    door = Door(str(about["token"]), path, runner, abroad, about)
    _doors[door.token] = door
    return door
