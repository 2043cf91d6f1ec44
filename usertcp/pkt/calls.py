"""System calls as a script writes them, led to what a target has for them, and held to what they gave.

A script's descriptors are its own numbers; :class:`Files` knows the socket behind each. A buffer that is not written
out, ``...``, is filled with the stream's :func:`~usertcp.pkt.flow.pattern`, so that what arrives is known to be right.
"""

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, Final, Protocol

from usertcp.driver.options import INT, LINGER
from usertcp.errors import os_error
from usertcp.pkt.flow import pattern
from usertcp.pkt.names import CONSTANTS, SIOCATMARK, SIOCINQ, SIOCOUTQ, SIOCOUTQNSD
from usertcp.pkt.syntax import Call, Expression, Settings, Struct
from usertcp.wire import ipv4

Address = tuple[str, int]

MAX_PORT: Final = 0xFFFF
MAX_BUFFER: Final = 64 << 20  # bytes that one call reads or writes

# How many arguments each call takes, at least and at most.
ARITY: Final[dict[str, tuple[int, int]]] = {
    "socket": (3, 3),
    "bind": (3, 3),
    "listen": (2, 2),
    "accept": (3, 3),
    "accept4": (4, 4),
    "connect": (3, 3),
    "read": (3, 3),
    "readv": (3, 3),
    "recv": (4, 4),
    "recvfrom": (6, 6),
    "recvmsg": (3, 3),
    "write": (3, 3),
    "writev": (3, 3),
    "send": (4, 4),
    "sendto": (6, 6),
    "sendmsg": (3, 3),
    "shutdown": (2, 2),
    "close": (1, 1),
    "setsockopt": (5, 5),
    "getsockopt": (5, 5),
    "fcntl": (2, 3),
    "poll": (3, 3),
    "ioctl": (3, 3),
}


class Sockets(Protocol):
    """The calls of a target. A handle is whatever it has for a socket; a failure is the OSError."""

    def socket(self, family: int, kind: int, proto: int) -> Any: ...
    def bind(self, handle: Any, address: Address) -> None: ...
    def listen(self, handle: Any, backlog: int) -> None: ...
    def accept(self, handle: Any, flags: int) -> Any: ...
    def connect(self, handle: Any, address: Address) -> Any: ...
    def send(self, handle: Any, data: bytes, flags: int) -> Any: ...
    def recv(self, handle: Any, size: int, flags: int) -> Any: ...
    def shutdown(self, handle: Any, how: int) -> None: ...
    def close(self, handle: Any) -> Any: ...
    def setsockopt(self, handle: Any, level: int, name: int, value: bytes) -> None: ...
    def getsockopt(self, handle: Any, level: int, name: int, size: int) -> bytes: ...
    def get_flags(self, handle: Any) -> int: ...
    def set_flags(self, handle: Any, flags: int) -> None: ...
    def poll(self, wanted: Sequence[tuple[Any, int]], timeout: int) -> Any: ...
    def ask(self, handle: Any, request: int) -> int: ...


class Unusable(Exception):
    """A script gives a call what it cannot be given."""


@dataclass(slots=True)
class File:
    """A descriptor of a script's. ``written, read``: bytes of the stream so far."""

    handle: Any
    written: int = 0
    read: int = 0


@dataclass(slots=True)
class Files:
    """The descriptors that are open.

    ``current``       the newest one that has a connection
    ``writes_plain``  everything that was written is the pattern's; ``reads_plain``: what is read should be, too
    """

    table: dict[int, File] = field(default_factory=dict)
    current: File | None = None
    writes_plain: bool = True
    reads_plain: bool = True

    def file(self, number: int) -> File:
        """OSError(EBADF) if it is not open."""
        found = self.table.get(number)
        if found is None:
            raise os_error(errno.EBADF)
        return found

    def put(self, number: int, handle: Any) -> File:
        """A new descriptor gets the number that the script gives it."""
        if number in self.table:
            raise Unusable(f"the descriptor {number} is in use already")
        self.table[number] = File(handle)
        return self.table[number]


Finish = Callable[[Any], tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Plan:
    """A call for a target: ``method`` of its sockets with ``arguments``. ``finish`` takes what came of it, and tells
    the number that the call returns and what is wrong with what it gave besides ("": nothing).

    ``connects``  the peer's port of the connection that it opens
    ``binds``     the port that it binds
    """

    method: str
    arguments: tuple[Any, ...]
    finish: Finish
    connects: int | None = None
    binds: int | None = None


def plan(call: Call, files: Files, settings: Settings) -> Plan:
    """What ``call`` asks of a target. OSError: it fails at once; Unusable: it makes no sense."""
    args = call.arguments
    if call.name == "socket":
        return _socket(call, files)
    if call.name == "poll":
        return _poll(args, files)
    file = files.file(_int(args[0], "a descriptor"))
    return _PLANS[call.name](call, file, files, settings)


# -- one function a kind of call -------------------------------------------------------------------------------------


def _socket(call: Call, files: Files) -> Plan:
    family, kind, proto = call.arguments
    wanted = (_int(family, "a family", CONSTANTS["AF_INET"]), _int(kind, "a type"), _int(proto, "a protocol", 0))
    return Plan("socket", wanted, _new(call, files))


def _new(call: Call, files: Files) -> Finish:
    """The call gives a descriptor, which gets the script's number."""
    number = _number(call)

    def finish(handle: Any) -> tuple[int, str]:
        file = files.put(number, handle)
        if call.name != "socket":
            files.current = file
        return number, ""

    return finish


def _number(call: Call) -> int:
    if not isinstance(call.result, int):
        raise Unusable("give the new descriptor a number")
    return call.result


def _bind(call: Call, file: File, files: Files, settings: Settings) -> Plan:
    address = _address(call.arguments[1], ("0.0.0.0", settings.bind_port))
    return Plan("bind", (file.handle, address), _nothing, binds=address[1])


def _listen(call: Call, file: File, files: Files, settings: Settings) -> Plan:
    return Plan("listen", (file.handle, _int(call.arguments[1], "a backlog")), _nothing)


def _accept(call: Call, file: File, files: Files, settings: Settings) -> Plan:
    flags = _int(call.arguments[3], "flags") if call.name == "accept4" else 0
    return Plan("accept", (file.handle, flags), _new(call, files))


def _connect(call: Call, file: File, files: Files, settings: Settings) -> Plan:
    address = _address(call.arguments[1], (settings.remote_ip, settings.connect_port))
    files.current = file
    return Plan("connect", (file.handle, address), _nothing, connects=address[1])


def _send(call: Call, file: File, files: Files, settings: Settings) -> Plan:
    data, flags = _outgoing(call, file, files)

    def finish(count: int) -> tuple[int, str]:
        file.written += count
        return count, ""

    return Plan("send", (file.handle, data, flags), finish)


def _outgoing(call: Call, file: File, files: Files) -> tuple[bytes, int]:
    """The bytes to send, and the flags."""
    args = call.arguments
    if call.name in ("writev", "sendmsg"):
        pieces = _pieces(args[1])
        flags = _int(args[2], "flags") if call.name == "sendmsg" else 0
    else:
        pieces = [(args[1], _length(args[2]))]
        flags = _int(args[3], "flags") if len(args) > 3 else 0
    data = b""
    for text, size in pieces:
        if isinstance(text, bytes):
            files.writes_plain = False
            data += text[:size].ljust(size, b"\0")
        else:
            data += pattern(file.written + len(data) + 1, size)
    return data, flags


def _pieces(value: Expression) -> list[tuple[Expression, int]]:
    """The buffers of an iovec or a msghdr, with their lengths."""
    if isinstance(value, Struct):
        value = value.fields.get("msg_iov", ())
    if not isinstance(value, tuple):
        raise Unusable("an array of buffers is wanted, as in [{..., 1000}]")
    found = []
    for piece in value:
        if not isinstance(piece, Struct):
            raise Unusable("a buffer is written {..., 1000}")
        parts = piece.items or tuple(piece.fields.values())
        if len(parts) != 2:
            raise Unusable("a buffer is written {..., 1000}")
        found.append((parts[0], _length(parts[1])))
    return found


def _recv(call: Call, file: File, files: Files, settings: Settings) -> Plan:
    args = call.arguments
    wanted: Expression = ...
    if call.name in ("readv", "recvmsg"):
        size = sum([length for _, length in _pieces(args[1])])
        flags = _int(args[2], "flags") if call.name == "recvmsg" else 0
    else:
        wanted, size = args[1], _length(args[2])
        flags = _int(args[3], "flags") if len(args) > 3 else 0
    keeps = flags & CONSTANTS["MSG_PEEK"]
    plain = files.reads_plain and not flags & CONSTANTS["MSG_OOB"]

    def finish(data: bytes) -> tuple[int, str]:
        wrong = ""
        if isinstance(wanted, bytes):
            wrong = "" if data == wanted else f"it read {data!r}"
        elif plain and data != pattern(file.read + 1, len(data)):
            wrong = "what it read is not what was sent"
        if not keeps:
            file.read += len(data)
        return len(data), wrong

    return Plan("recv", (file.handle, size, flags), finish)


def _shutdown(call: Call, file: File, files: Files, settings: Settings) -> Plan:
    return Plan("shutdown", (file.handle, _int(call.arguments[1], "SHUT_RD, SHUT_WR or SHUT_RDWR")), _nothing)


def _close(call: Call, file: File, files: Files, settings: Settings) -> Plan:
    del files.table[_int(call.arguments[0], "a descriptor")]
    if files.current is file:
        files.current = None
    return Plan("close", (file.handle,), _nothing)


def _setsockopt(call: Call, file: File, files: Files, settings: Settings) -> Plan:
    _, level, name, value, length = call.arguments
    size = _int(length, "a length")
    data = _octets(value)[: max(size, 0)]
    return Plan("setsockopt", (file.handle, _int(level, "a level"), _int(name, "an option"), data), _nothing)


def _octets(value: Expression) -> bytes:
    """An option's value as the memory it is."""
    match value:
        case bytes():
            return value
        case int():
            return INT.pack(_signed(value))
        case (int(number),):
            return INT.pack(_signed(number))
        case Struct(fields={"onoff": int(on), "linger": int(seconds)}):
            return LINGER.pack(_signed(on), _signed(seconds))
    raise Unusable('the value of an option is written [1], {onoff=1, linger=0} or "cubic"')


def _signed(value: int) -> int:
    return (value + (1 << 31) & 0xFFFF_FFFF) - (1 << 31)


def _getsockopt(call: Call, file: File, files: Files, settings: Settings) -> Plan:
    _, level, name, wanted, length = call.arguments
    size = _int(length[0] if isinstance(length, tuple) and length else length, "a length", INT.size)
    if isinstance(wanted, bytes):
        size = max(size, len(wanted))

    def finish(data: bytes) -> tuple[int, str]:
        if isinstance(wanted, EllipsisType):
            return 0, ""
        if isinstance(wanted, bytes):
            told = data.split(b"\0", 1)[0]
            return 0, "" if told == wanted else f"it gave {told!r}"
        expected = _octets(wanted)
        if len(expected) == INT.size and len(data) >= INT.size:
            told_number = INT.unpack_from(data)[0]
            return 0, "" if data[: INT.size] == expected else f"it gave [{told_number}]"
        return 0, "" if data == expected else f"it gave {data.hex()}"

    return Plan("getsockopt", (file.handle, _int(level, "a level"), _int(name, "an option"), size), finish)


def _fcntl(call: Call, file: File, files: Files, settings: Settings) -> Plan:
    args = call.arguments
    command = _int(args[1], "F_GETFL or F_SETFL")
    if command == CONSTANTS["F_GETFL"]:
        return Plan("get_flags", (file.handle,), lambda flags: (flags, ""))
    if command == CONSTANTS["F_SETFL"] and len(args) == 3:
        return Plan("set_flags", (file.handle, _int(args[2], "flags")), _nothing)
    raise Unusable("fcntl is known with F_GETFL and F_SETFL")


def _ioctl(call: Call, file: File, files: Files, settings: Settings) -> Plan:
    _, request, wanted = call.arguments
    if request not in (SIOCINQ, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK):
        raise Unusable("ioctl is known with SIOCINQ, SIOCOUTQ, SIOCOUTQNSD and SIOCATMARK")

    def finish(value: int) -> tuple[int, str]:
        right = isinstance(wanted, EllipsisType) or value == (wanted[0] if isinstance(wanted, tuple) else wanted)
        return 0, "" if right else f"it gave [{value}]"

    return Plan("ask", (file.handle, request), finish)


def _poll(args: tuple[Expression, ...], files: Files) -> Plan:
    asked, _, timeout = args
    if not isinstance(asked, tuple):
        raise Unusable("poll takes an array, as in [{fd=3, events=POLLIN, revents=POLLIN}]")
    wanted, expected = [], []
    for entry in asked:
        if not isinstance(entry, Struct) or "fd" not in entry.fields:
            raise Unusable("an entry of poll is written {fd=3, events=POLLIN, revents=POLLIN}")
        file = files.file(_int(entry.fields["fd"], "a descriptor"))
        wanted.append((file.handle, _int(entry.fields.get("events", 0), "events")))
        expected.append(_int(entry.fields.get("revents", 0), "events", -1))

    def finish(got: list[int]) -> tuple[int, str]:
        wrong = [
            f"entry {number} has revents {_events(told)}"
            for number, (told, hoped) in enumerate(zip(got, expected, strict=True))
            if hoped not in (-1, told)
        ]
        return sum([told != 0 for told in got]), ", ".join(wrong)

    return Plan("poll", (wanted, _int(timeout, "a time in ms")), finish)


def _events(mask: int) -> str:
    names = [name for name, value in CONSTANTS.items() if name.startswith("POLL") and value & mask == value]
    return "|".join(names) or "0"


def _nothing(value: Any) -> tuple[int, str]:
    return 0, ""


_PLANS: Final[dict[str, Callable[[Call, File, Files, Settings], Plan]]] = {
    "bind": _bind,
    "listen": _listen,
    "accept": _accept,
    "accept4": _accept,
    "connect": _connect,
    "read": _recv,
    "readv": _recv,
    "recv": _recv,
    "recvfrom": _recv,
    "recvmsg": _recv,
    "write": _send,
    "writev": _send,
    "send": _send,
    "sendto": _send,
    "sendmsg": _send,
    "shutdown": _shutdown,
    "close": _close,
    "setsockopt": _setsockopt,
    "getsockopt": _getsockopt,
    "fcntl": _fcntl,
    "ioctl": _ioctl,
}


# -- values ----------------------------------------------------------------------------------------------------------


def _int(value: Expression, what: str, default: int | None = None) -> int:
    """``value`` as a number; Ellipsis means the default, if there is one."""
    if isinstance(value, EllipsisType) and default is not None:
        return default
    if not isinstance(value, int):
        raise Unusable(f"{what} is wanted")
    return value


def _address(value: Expression, default: Address) -> Address:
    """``{sa_family = AF_INET, sin_port = htons(80), sin_addr = inet_addr("192.0.2.1")}``."""
    if not isinstance(value, Struct):
        return default
    host, port = value.fields.get("sin_addr", ...), _int(value.fields.get("sin_port", ...), "a port", default[1])
    address = host.decode("ascii", "replace") if isinstance(host, bytes) else default[0]
    try:
        ipv4.pack(address)
    except ValueError:
        raise Unusable(f"{address} is no IPv4 address") from None
    if not 0 <= port <= MAX_PORT:
        raise Unusable(f"a port lies between 0 and {MAX_PORT}")
    return address, port


def _length(value: Expression) -> int:
    """The length of a buffer."""
    length = _int(value, "a length")
    if not 0 <= length <= MAX_BUFFER:
        raise Unusable(f"a buffer has 0 to {MAX_BUFFER} bytes")
    return length
