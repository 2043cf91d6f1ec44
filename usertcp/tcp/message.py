"""A message alone: text that one segment carries, sent while nothing else is on its way.

Whoever asks and answers in turn sends nothing else, and pays for each byte of it what a burst of 64 KB costs. Most of
what is decided for a burst has one answer here: both windows are open and will not be filled, Nagle's rule has nothing
to wait for (RFC 9293 §3.7.4), no timer of sending runs, and all that the user had goes. ``express`` asks
:func:`fits` when nothing is the matter with a connection; what it does otherwise leaves the same traces. What
acknowledges it is taken by ``predicted``. As long as nothing else happens nobody asks about it, and so nothing is
written down but its number and when it left: no record in the scoreboard, no timer, no sample of a rate. All of that
follows from the two, and :func:`enter` makes it up when something happens that was not expected.
"""

from typing import TYPE_CHECKING

from usertcp.tcp.buffers import SMALL
from usertcp.tcp.chrono import BUSY
from usertcp.tcp.receiver import ACK_NONE
from usertcp.tcp.ring import Buffer
from usertcp.tcp.rtt import TS_TICK
from usertcp.tcp.sender import NO_HEAD
from usertcp.tcp.state import ALONE, CALM, WRITABLE
from usertcp.tcp.timeouts import rearm, rest
from usertcp.tcp.timers import DELAYED_ACK
from usertcp.units import MASK32, NEVER
from usertcp.wire.ecn import NOT_ECT
from usertcp.wire.tcp import ACK, PSH, TIMESTAMPS_LEN, plain_header, stamped_header

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection
    from usertcp.tcp.output import Transmit
    from usertcp.tcp.sender import Sender


def calm_down(conn: "Connection") -> None:
    """Nothing is the matter with ``conn``; what holds until something is."""
    snd = conn.snd
    conn.calm = CALM
    snd.head = NO_HEAD
    snd.lone = bound(conn)
    snd.whole = conn.max_burst - conn.max_burst % full_segment(conn) if snd.lone else 0


def full_segment(conn: "Connection") -> int:
    """Text in a full segment."""
    return conn.snd.mss - TIMESTAMPS_LEN if conn.ts_ok else conn.snd.mss


def bound(conn: "Connection") -> int:
    """Bytes that a message alone of ``conn``, in which nothing is the matter, may have; 0: there are to be none. It
    holds until something is the matter."""
    snd = conn.snd
    if not conn.ts_ok or not snd.sack_ok or snd.tlp.end >= 0 or conn.config.user_timeout:
        return 0
    return min(snd.mss - TIMESTAMPS_LEN, snd.flight)


def fits(snd: "Sender", length: int) -> bool:
    """Whether ``length`` bytes, all that waits, fit a segment and the peer's window, and are little beside the other
    one; nothing is the matter with the connection, and nothing on its way."""
    return length <= snd.lone and length <= snd.wnd and 2 * length <= snd.cc.cwnd


def say(conn: "Connection", data: Buffer, now: int, tx: "Transmit") -> int:
    """Take ``data`` of the user and send it, if it is such a message; its bytes. 0: it is not, and nothing has
    changed."""
    if conn.calm != CALM or len(data) > SMALL:
        return 0
    if type(data) is not bytes:
        data = bytes(data)
    snd, length = conn.snd, len(data)
    buffer = snd.buffer
    if (
        not fits(snd, length)
        or not buffer.end == snd.nxt == snd.una
        or now - snd.last_sent_at > snd.rtt.rto
        or not conn.ready & WRITABLE
        or not buffer.keep(data)
    ):
        return 0
    if not send(conn, now, tx):
        conn.host.dirty(conn)
    return length


def send(conn: "Connection", now: int, tx: "Transmit") -> bool:
    """Send it. False: the sink was full, and nothing has changed."""
    snd, rcv = conn.snd, conn.rcv
    start, buffer, edge = snd.nxt, snd.buffer, rcv.edge
    end, text = buffer.end, buffer.alone
    length = end - start
    if text is None or len(text) != length:  # the rest of one that did not fit at first
        views = buffer.views(start, length)
    else:
        views = [memoryview(text)]
    if not tx.send(conn, header(conn, now, start, ACK | PSH), views, length, 0, NOT_ECT):
        rcv.edge = edge
        return False
    left(conn, now)
    return True


def left(conn: "Connection", now: int) -> None:
    """All that the user has handed in is on its way, as a message alone."""
    snd, chrono = conn.snd, conn.chrono
    conn.rcv.quick = 0
    acknowledged(conn)
    conn.segments_out += 1
    snd.nxt = snd.buffer.end
    snd.last_sent_at = now
    chrono.rest(now)
    chrono.state, chrono.since = BUSY, now
    conn.calm = ALONE


def answered(conn: "Connection", now: int) -> None:
    """The message that is on its way is acknowledged: what it leaves behind, which is what any text would leave that
    used little of the window."""
    snd = conn.snd
    acked, una = snd.on_answer(now), snd.una
    if acked < snd.mss - TIMESTAMPS_LEN:
        snd.small_end = una
    snd.usage_full, snd.usage_flight, snd.usage_end = False, acked, una
    snd.buffer.clear()
    conn.bytes_acked += acked
    rest(conn)
    conn.chrono.rest(now)
    conn.calm = CALM


def enter(conn: "Connection") -> None:
    """Write down what :func:`send` has left out: the message is alone no more, or not all is well."""
    snd = conn.snd
    at, length, end = snd.last_sent_at, snd.nxt - snd.una, snd.nxt
    conn.calm = CALM
    snd.cc.on_send(at, app_limited=snd.rate.app_limited > 0, flight=0)
    record = snd.board.push(snd.una, end, at, snd.mss - TIMESTAMPS_LEN)
    snd.rate.on_send(record, length, at, idle=True)
    snd.rate.on_user_idle(length)
    if length < snd.mss - TIMESTAMPS_LEN:
        snd.small_end = end
    snd.usage_full, snd.usage_flight, snd.usage_end = False, length, end
    snd.unacked_since = at
    rearm(conn, at)


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
