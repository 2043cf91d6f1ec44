"""What a connection that has something to send waits for, in ns of its life.

A transfer is slow for one of three reasons, and a user can do something about two of them. So the time in which there
is something to send, or something sent that is not acknowledged, is *busy* time, and parts of it are named after who
is in the way:

- *window-limited*: text waits, the congestion window would let a segment go, and the peer's window does not;
- *buffer-limited*: nothing waits although the user wants to write more: all of the send buffer is on its way, and the
  congestion window has room. A larger buffer, or a user who writes sooner, would fill it;
- the rest of the busy time the network sets the pace: the congestion window, or pacing.

It is looked at each time the connection had its turn to send, the only moments when the answer can change (Linux keeps
the same three sums, tcpi_busy_time and its companions). ``Connection.poll`` calls; nothing here decides anything.
"""

from typing import TYPE_CHECKING, Final

from usertcp.tcp.state import CAN_SEND, WRITABLE

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection

IDLE: Final = 0
BUSY: Final = 1
WINDOW_LIMITED: Final = 2
BUFFER_LIMITED: Final = 3


class Chrono:
    """``state`` has held since ``since``; ``spent`` are the finished times of each state, ns."""

    __slots__ = ("since", "spent", "state")

    def __init__(self) -> None:
        self.state = IDLE
        self.since = 0
        self.spent = [0, 0, 0, 0]

    def look(self, conn: "Connection", now: int) -> None:
        """The connection has sent what it may."""
        buffer = conn.snd.buffer
        if buffer.start == buffer.end:  # text alone counts; a SYN or FIN keeps nobody busy
            state = IDLE
        elif buffer.end == conn.snd.nxt and conn.ready & WRITABLE:
            state = BUSY
        else:
            state = _reason(conn)
        if state != self.state:
            self.enter(state, now)

    def enter(self, state: int, now: int) -> None:
        """``state``, another one, holds from ``now`` on."""
        self.spent[self.state] += now - self.since
        self.state = state
        self.since = now

    def rest(self, now: int) -> None:
        """The same, and all of it is acknowledged."""
        state = self.state
        if state != IDLE:
            self.spent[state] += now - self.since
            self.state = IDLE
            self.since = now

    def times(self, now: int) -> tuple[int, int, int]:
        """Busy, window-limited and buffer-limited time up to ``now`` (a time before the last change: up to that)."""
        spent = self.spent[:]
        spent[self.state] += max(0, now - self.since)
        return spent[BUSY] + spent[WINDOW_LIMITED] + spent[BUFFER_LIMITED], spent[WINDOW_LIMITED], spent[BUFFER_LIMITED]


def _reason(conn: "Connection") -> int:
    snd = conn.snd
    unsent = snd.buffer.end - snd.nxt
    mss = snd.cc.mss
    if snd.pipe + mss > snd.cc.cwnd:
        return BUSY
    if unsent > 0:
        return WINDOW_LIMITED if snd.una + snd.wnd - snd.nxt < min(unsent, mss) else BUSY
    return BUSY if conn.ready & WRITABLE or conn.state not in CAN_SEND else BUFFER_LIMITED
