"""The two stacks that a measurement can go over, in one shape: usertcp's own, and the kernel's for comparison.

The program above is the same, so that what differs between two runs is the stack alone.
"""

import socket
import struct
from contextlib import suppress
from typing import Final, Protocol, cast

from usertcp.blocking import Conn as OurConn
from usertcp.blocking import Host
from usertcp.driver.open import resolve
from usertcp.errors import SetupError
from usertcp.link import netns as namespaces
from usertcp.perf.protocol import Conn

BACKLOG: Final = 256
TOTAL_RETRANS: Final = 100  # offset of tcpi_total_retrans in struct tcp_info (linux/tcp.h)

Address = tuple[str, int]


class Door(Protocol):
    """A listener."""

    def accept(self) -> Conn: ...
    def settimeout(self, seconds: float | None) -> None: ...
    def close(self) -> None: ...


class Road(Protocol):
    """A stack. ``name``: which."""

    @property
    def name(self) -> str: ...
    def connect(self, remote: Address, timeout: float) -> Conn: ...
    def listen(self, port: int) -> Door: ...
    def retransmits(self, conn: Conn) -> int: ...
    def abort(self, conn: Conn) -> None: ...


class Ours:
    """usertcp's stack."""

    name: Final = "usertcp"

    def __init__(self, host: Host) -> None:
        self.host = host

    def connect(self, remote: Address, timeout: float) -> Conn:
        conn = self.host.connect(remote, timeout=timeout)
        conn.configure(nodelay=True)
        return conn

    def listen(self, port: int) -> Door:
        return self.host.listen(("", port), backlog=BACKLOG)

    def retransmits(self, conn: Conn) -> int:
        return cast(OurConn, conn).info().retransmissions

    def abort(self, conn: Conn) -> None:
        cast(OurConn, conn).abort()


class _KernelDoor:
    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener

    def accept(self) -> Conn:
        conn, _ = self.listener.accept()
        conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return conn

    def settimeout(self, seconds: float | None) -> None:
        self.listener.settimeout(seconds)

    def close(self) -> None:
        self.listener.close()


class Kernel:
    """The kernel's stack, in the namespace ``netns`` (None: here). ``congestion``: "" is the system's choice."""

    name: Final = "kernel"

    def __init__(self, netns: str | None = None, congestion: str = "") -> None:
        self.netns = netns
        self.congestion = congestion

    def connect(self, remote: Address, timeout: float) -> Conn:
        conn = self._socket()
        try:
            conn.settimeout(timeout)
            conn.connect((resolve(remote[0]), remote[1]))
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn.settimeout(None)
        except BaseException:
            conn.close()
            raise
        return conn

    def listen(self, port: int) -> Door:
        listener = self._socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", port))
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        return _KernelDoor(listener)

    def retransmits(self, conn: Conn) -> int:
        info = cast(socket.socket, conn).getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TOTAL_RETRANS + 4)
        return int(struct.unpack_from("=I", info, TOTAL_RETRANS)[0])

    def abort(self, conn: Conn) -> None:
        """Closed with a time of zero to linger, a socket resets; whoever waits on it is woken by the shutdown."""
        sock = cast(socket.socket, conn)
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()

    def _socket(self) -> socket.socket:
        with namespaces.inside(self.netns):
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if self.congestion:
            try:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, self.congestion.encode())
            except OSError as error:
                made.close()
                raise SetupError(
                    f"the kernel has no congestion control {self.congestion!r} ({error.strerror})",
                    "choose from /proc/sys/net/ipv4/tcp_available_congestion_control, or: modprobe tcp_"
                    + self.congestion,
                ) from None
        return made
