"""A message alone: text that one segment carries, sent while nothing else is on its way.

Whoever asks and answers in turn sends nothing else, and pays for each byte of it what a burst of 64 KB costs. Most of
what is decided for a burst has one answer here: both windows are open and will not be filled, Nagle's rule has nothing
to wait for (RFC 9293 §3.7.4), no timer of sending runs, and all that the user had goes. ``express`` asks
:func:`is_alone` when nothing is the matter with a connection; what it does otherwise leaves the same traces. What
acknowledges it is taken by ``predicted``. As long as nothing else happens nobody asks the scoreboard about it, and
there is no record of it there.
"""

from typing import TYPE_CHECKING

from usertcp.tcp.receiver import ACK_NONE
from usertcp.tcp.rtt import TS_TICK
from usertcp.tcp.state import ALONE, CALM
from usertcp.tcp.timeouts import await_answer
from usertcp.tcp.timers import DELAYED_ACK
from usertcp.units import MASK32, NEVER
from usertcp.wire.ecn import NOT_ECT
from usertcp.wire.tcp import ACK, PSH, TIMESTAMPS_LEN, plain_header, stamped_header

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection
    from usertcp.tcp.output import Transmit


def is_alone(conn: "Connection") -> bool:
    """Whether all text that waits fits a segment and the peer's window, and is little beside the other one; nothing is
    the matter with ``conn``, and nothing on its way."""
    snd = conn.snd
    length = snd.buffer.end - snd.nxt
    return (
        length <= snd.mss - TIMESTAMPS_LEN
        and length <= snd.wnd
        and 2 * length <= snd.cc.cwnd
        and length <= snd.flight
        and conn.ts_ok
        and snd.sack_ok
        and snd.tlp.end < 0
    )


def send(conn: "Connection", now: int, tx: "Transmit") -> bool:
    """Send it. False: the sink was full, and nothing has changed."""
    snd, rcv = conn.snd, conn.rcv
    start, end, rate = snd.nxt, snd.buffer.end, snd.rate
    length = end - start
    snd.cc.on_send(now, app_limited=rate.app_limited > 0, flight=0)
    edge = rcv.edge
    if not tx.send(conn, header(conn, now, start, ACK | PSH), snd.buffer.views(start, length), length, 0, NOT_ECT):
        rcv.edge = edge
        return False
    rcv.quick = 0
    acknowledged(conn)
    conn.segments_out += 1
    if length < snd.mss - TIMESTAMPS_LEN:
        snd.small_end = end
    snd.board.in_flight = length
    rate.on_message(length, now)
    snd.nxt = snd.usage_end = end
    snd.unacked_since = snd.last_sent_at = now
    snd.usage_full = False
    snd.usage_flight = length
    await_answer(conn, now)
    conn.calm = ALONE
    return True


def enter(conn: "Connection") -> None:
    """Enter the message that is on its way into the scoreboard: it is alone no more, or not all is well."""
    snd = conn.snd
    length = snd.board.in_flight
    snd.board.in_flight = 0
    record = snd.board.push(snd.una, snd.nxt, snd.last_sent_at, snd.mss - TIMESTAMPS_LEN)
    snd.rate.note_message(record, length)
    conn.calm = CALM


def header(conn: "Connection", now: int, seq: int, flags: int) -> bytearray:
    """That of a segment without options but timestamps; the window that it offers is offered from now on."""
    rcv = conn.rcv
    window, ack = rcv.window_field(), rcv.nxt & MASK32
    if conn.ts_ok:
        tsval = now // TS_TICK + conn.ts_offset & MASK32
        return stamped_header(conn.sport, conn.dport, seq & MASK32, ack, flags, window, tsval, rcv.ts_recent)
    return plain_header(conn.sport, conn.dport, seq & MASK32, ack, flags, window)


def acknowledged(conn: "Connection") -> None:
    """What was received is acknowledged by what has just left."""
    rcv = conn.rcv
    rcv.ack = ACK_NONE
    rcv.duplicates = rcv.since_ack = 0
    rcv.last_ack_sent = rcv.nxt
    conn.timers.due[DELAYED_ACK] = NEVER
