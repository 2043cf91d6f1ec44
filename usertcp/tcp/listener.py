"""A listening port: the half-open connections, and those that wait for ``accept`` (RFC 9293 §3.10.1, passive OPEN).

The listener is the LISTEN state that every connection it begets starts from. It says when either of its queues is full:
a SYN that finds the accept queue so is dropped, and the third segment of a handshake is ignored, so that the peer tries
again, or the SYN,ACK does. What becomes of a SYN that finds too many half-open connections is decided in ``net``.
It holds no segment and sends none.
"""

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from usertcp.tcp.config import TcpConfig
from usertcp.tcp.output import reset_for
from usertcp.tcp.state import READABLE
from usertcp.wire.tcp import ACK, Segment

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection, Host

MIN_HALF_OPEN: Final = 128  # half-open connections however small the backlog (Linux: tcp_max_syn_backlog)


class Listener:
    """A port in LISTEN. ``backlog`` bounds the connections that wait for :meth:`accept`."""

    __slots__ = (
        "backlog",
        "closed",
        "config",
        "flow",
        "half_open",
        "host",
        "port",
        "queue",
        "ready",
        "shares",
        "syn_backlog",
        "user",
    )

    def __init__(self, host: "Host", config: TcpConfig, port: int, backlog: int) -> None:
        self.host = host
        self.config = config
        self.port = port
        self.backlog = max(backlog, 0)
        self.syn_backlog = MIN_HALF_OPEN
        self.half_open: dict[Connection, None] = {}  # in the order of their SYNs
        self.shares: dict[Any, int] = {}  # how many of them each source has
        self.queue: deque[Connection] = deque()
        self.ready = 0
        self.closed = False
        self.flow: Any = None  # net's: the address it listens on
        self.user: Any = None  # the front end's

    @property
    def local(self) -> tuple[str, int]:
        """The address and port it listens on."""
        local: tuple[str, int] = self.flow.local
        return local

    def has_room(self) -> bool:
        """Whether the accept queue takes another; as on Linux it holds ``backlog`` + 1."""
        return not self.closed and len(self.queue) <= self.backlog

    def is_pressed(self) -> bool:
        """Whether there are as many half-open connections as may be."""
        return len(self.half_open) >= max(self.backlog, self.syn_backlog)

    def on_half_open(self, conn: "Connection") -> None:
        """``conn`` entered SYN-RECEIVED."""
        source, shares = _source(conn), self.shares
        shares[source] = shares.get(source, 0) + 1
        self.half_open[conn] = None

    def on_established(self, conn: "Connection") -> None:
        """``conn`` finished its handshake: it waits to be accepted."""
        self._leaves(conn)
        self.queue.append(conn)
        self.ready |= READABLE
        self.host.notify(self)

    def on_gone(self, conn: "Connection") -> None:
        """``conn`` is CLOSED. One that waits for ``accept`` stays: its user is to learn of the error (as on Linux)."""
        self._leaves(conn)

    def _leaves(self, conn: "Connection") -> None:
        """``conn`` is not half-open, or no longer."""
        if conn not in self.half_open:
            return
        del self.half_open[conn]
        source, shares = _source(conn), self.shares
        left = shares[source] - 1
        if left:
            shares[source] = left
        else:
            del shares[source]

    def accept(self) -> "Connection | None":
        """The connection that has waited longest, or None."""
        conn = self.queue.popleft() if self.queue else None
        if not self.queue:
            self.ready &= ~READABLE
        return conn

    def close(self) -> None:
        """Stop listening; what was not accepted is aborted with a reset (RFC 9293 §3.10.4, LISTEN)."""
        self.closed = True
        self.ready = 0
        waiting = [*self.half_open, *self.queue]
        self.half_open.clear()
        self.shares.clear()
        self.queue.clear()
        for conn in waiting:
            conn.abort()
        self.host.forget(self)


def _source(conn: "Connection") -> Any:
    """Whose SYN begot ``conn``; None where there is no net."""
    return conn.flow and conn.flow.remote_ip


def closed_reply(seg: Segment) -> tuple[int, int, int] | None:
    """The reset for a segment that finds no connection (RFC 9293 §3.10.7.1), or one that a listener does not take
    (§3.10.7.2): (seq, ack, flags) on the wire, or None when silence is asked for."""
    return reset_for(seg.flags, seg.seq, seg.ack, seg.length)


def listen_reply(seg: Segment) -> tuple[int, int, int] | None:
    """The reset for a segment in LISTEN that is no SYN: only an ACK is answered (RFC 9293 §3.10.7.2)."""
    return closed_reply(seg) if seg.flags & ACK else None
