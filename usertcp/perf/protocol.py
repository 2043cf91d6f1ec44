"""What the two ends of a measurement say to each other, and the words for what they find.

All connections go from the client to one port of the server. The first is the *control* connection, the others are the
*streams*, which carry the bytes that are counted. Every connection begins with a hello of 26 bytes: the word
``usertcp1``, 16 random bytes that are the same on all connections of one test, and the number of the stream (two bytes;
0 is the control connection). What follows on a stream is its bytes and nothing else; a FIN ends it. On the control
connection go messages, each a JSON object behind its length of four bytes::

    client                                            server
      | ---- hello 0, {"test": Plan} ------------------> |
      | <--- {"ready": true}, or {"refused": "why"} ---- |     refused: another test runs, or the test makes no sense
      | ---- hello 1 .. hello P, on P streams ---------> |
      | <--- {"start": true} --------------------------- |     all streams are there
      |                                                  |
      | ==== bytes, from the sender to the receiver ==== |     until the sender's time or bytes are over: FIN
      |                                                  |
      | ---- {"result": Half} -------------------------> |     the receiver's when the last FIN has come
      | <--- {"result": Half} -------------------------- |
      | ---- FIN --------------------------------------> |

Numbers are in network byte order. Who hears something else ends the test. Not here: encryption, and any protection
against a peer that lies; it is a measurement among friends.
"""

import json
import os
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from socket import SHUT_WR
from typing import Any, Final, Protocol, TypeVar

from usertcp.errors import SetupError

T = TypeVar("T")

PORT: Final = 5201  # iperf3's: the firewalls know it
WORD: Final = b"usertcp1"
HELLO: Final = struct.Struct("!8s16sH")
LENGTH: Final = struct.Struct("!I")
LONGEST: Final = 1 << 20  # bytes of a message
STREAMS: Final = 128  # at most
LARGEST: Final = 1 << 30  # bytes of one write


class Conn(Protocol):
    """What a measurement needs of a connection: usertcp's (:class:`usertcp.blocking.Conn`) and the kernel's have it."""

    def sendall(self, data: bytes | memoryview, /) -> None: ...
    def recv_into(self, buffer: bytearray | memoryview, /) -> int: ...
    def shutdown(self, how: int, /) -> None: ...
    def settimeout(self, seconds: float | None, /) -> None: ...
    def getpeername(self) -> Any: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be measured.

    ``reverse``  the server sends
    ``seconds``  that the sender sends; 0: until ``bytes`` are sent
    ``bytes``    of all streams together; 0: as many as the time allows
    ``length``   of one write, and of the buffer that is read into
    """

    streams: int = 1
    reverse: bool = False
    seconds: float = 10.0
    bytes: int = 0
    length: int = 256 << 10

    def __post_init__(self) -> None:
        good = 1 <= self.streams <= STREAMS and 1 <= self.length <= LARGEST and self.seconds >= 0 and self.bytes >= 0
        if not good or not (self.seconds or self.bytes):
            raise ValueError("this test makes no sense")


@dataclass(slots=True)
class Half:
    """What one end found.

    ``bytes``        of each stream, handed in or read
    ``seconds``      from the start of the test to the end of the last stream
    ``retransmits``  segments sent again, of each stream (the sender's; the kernel's and ours count alike)
    ``cpu``          seconds of processor time that the process used meanwhile
    ``stack``        "usertcp" or "kernel"
    """

    bytes: list[int] = field(default_factory=list)
    seconds: float = 0.0
    retransmits: list[int] = field(default_factory=list)
    cpu: float = 0.0
    stack: str = ""


class Control:
    """The control connection, as messages."""

    def __init__(self, conn: Conn) -> None:
        self.conn = conn

    def send(self, **message: Any) -> None:
        text = json.dumps(message).encode()
        self.conn.sendall(LENGTH.pack(len(text)) + text)

    def receive(self, key: str) -> Any:
        """What the next message says under ``key``. SetupError if it is refused, or another message."""
        length = LENGTH.unpack(exactly(self.conn, LENGTH.size))[0]
        if length > LONGEST:
            raise _stranger()
        try:
            message = json.loads(exactly(self.conn, length))
        except ValueError:
            raise _stranger() from None
        if isinstance(message, dict) and "refused" in message:
            raise SetupError(f"the server refused: {message['refused']}", "try again later")
        if not isinstance(message, dict) or key not in message:
            raise _stranger()
        return message[key]

    def send_test(self, test: Plan) -> None:
        self.send(test=asdict(test))

    def receive_test(self) -> Plan:
        return _made(Plan, self.receive("test"))

    def send_result(self, half: Half) -> None:
        self.send(result=asdict(half))

    def receive_result(self) -> Half:
        return _made(Half, self.receive("result"))

    def close(self) -> None:
        self.conn.close()


def cookie() -> bytes:
    """By which the connections of one test know each other."""
    return os.urandom(16)


def greet(conn: Conn, test: bytes, number: int) -> None:
    """The first bytes of a connection."""
    conn.sendall(HELLO.pack(WORD, test, number))


def greeted(conn: Conn) -> tuple[bytes, int]:
    """(cookie, number of the stream) of a connection that has come. SetupError if it is none of ours."""
    word, test, number = HELLO.unpack(exactly(conn, HELLO.size))
    if word != WORD:
        raise _stranger()
    return test, number


def exactly(conn: Conn, count: int) -> bytes:
    """The next ``count`` bytes. SetupError when the connection ends before."""
    data = bytearray(count)
    view = memoryview(data)
    while len(view):
        got = conn.recv_into(view)
        if not got:
            raise SetupError("the other end has gone away", "look at what it says")
        view = view[got:]
    return bytes(data)


def finish(conn: Conn) -> None:
    """No more comes from us."""
    conn.shutdown(SHUT_WR)


def _stranger() -> SetupError:
    return SetupError("the other end does not speak usertcp perf's protocol", "check address and port")


def _made(kind: Callable[..., T], fields: Any) -> T:
    try:
        return kind(**fields)
    except (TypeError, ValueError):
        raise _stranger() from None
