"""A control alone: our SYN, or our FIN, while nothing else of ours is on its way.

What opens and closes a connection is sent once in its life, and nearly always answered by one segment. As with a
message alone (``message``) nothing is written down of it but its number and when it left; :func:`enter` makes up the
rest when something happens that was not expected: no answer, or one that says more.

A connection that has nothing to send but its FIN sends it by :func:`send_fin`; the peer's FIN that comes alone is taken
by :func:`take_fin`, and the ACK of ours by :func:`take_ack_of_fin`. What does not fit goes by ``output`` and
``arrives``, which leave the same traces. The SYN's part is in ``opening``.
"""

from typing import TYPE_CHECKING, Final

from usertcp.tcp.arrives import eighth_process_fin, fin_acked
from usertcp.tcp.message import acknowledged, answered, header
from usertcp.tcp.output import NO_TEXT, Transmit, send_acks
from usertcp.tcp.receiver import ACK_NOW
from usertcp.tcp.state import ALONE, CONTROL, DOUBTED, ENDING, WRITABLE, State
from usertcp.tcp.timeouts import arm_lone, rest
from usertcp.units import MASK32
from usertcp.wire.ecn import NOT_ECT
from usertcp.wire.tcp import ACK, FIN, TIMESTAMPS_LEN

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection

_HALF: Final = 1 << 31


def enter(conn: "Connection") -> None:
    """Write down what was left out: something happens that was not expected."""
    snd = conn.snd
    at, syn = snd.last_sent_at, not snd.fin_sent
    conn.calm = DOUBTED
    if not syn:
        snd.cc.on_send(at, app_limited=snd.rate.app_limited > 0, flight=0)
    record = snd.board.push(snd.una, snd.nxt, at, 1 if syn else snd.mss - TIMESTAMPS_LEN)
    snd.rate.on_send(record, 1, at, idle=True)
    if not syn:
        snd.rate.on_user_idle(1)
        snd.usage_full, snd.usage_flight, snd.usage_end = False, 1, snd.nxt


def send_fin(conn: "Connection", now: int, tx: Transmit) -> bool:
    """Send our FIN, which is all that there is to send; nothing is the matter. True: more waits, the sink was full."""
    snd, rcv = conn.snd, conn.rcv
    edge, seq = rcv.edge, snd.nxt
    if not tx.send(conn, header(conn, now, seq, ACK | FIN), NO_TEXT, 0, 0, NOT_ECT):
        rcv.edge = edge
        return True
    acknowledged(conn)
    conn.segments_out += 1
    snd.nxt = seq + 1
    snd.fin_sent = True
    snd.last_sent_at = snd.unacked_since = now
    conn.override = False
    conn.calm = CONTROL
    arm_lone(conn, now)
    return conn.state is not State.LAST_ACK and not send_acks(conn, tx, now)


def take_fin(conn: "Connection", seq: int, ack: int, wnd: int, tsval: int, now: int) -> bool:
    """Take the peer's FIN, which comes without text to a connection in which nothing is the matter, and acknowledges
    all that was sent. Numbers as on the wire. False: it is another, and nothing has changed."""
    rcv, snd = conn.rcv, conn.snd
    if (
        not _is_in_order(conn, seq, ack, wnd, tsval)
        or rcv.nxt >= rcv.edge
        or snd.buffer.end != snd.nxt
        or not conn.ready & WRITABLE
        or (conn.calm != ALONE and (snd.una != snd.nxt or snd.wl1 > rcv.nxt))
    ):
        return False
    if conn.calm == ALONE:
        answered(conn, now)
    _note(conn, wnd, tsval, now)
    rcv.fin = rcv.nxt
    rcv.nxt += 1
    rcv.ack = ACK_NOW
    eighth_process_fin(conn, now)
    conn.calm = ENDING
    conn.host.owes(conn)
    return True


def take_ack_of_fin(conn: "Connection", seq: int, ack: int, wnd: int, tsval: int, now: int) -> bool:
    """Take the ACK of our FIN, which is all that is on its way. As :func:`take_fin`."""
    snd = conn.snd
    if not (snd.fin_sent and _is_in_order(conn, seq, ack, wnd, tsval)):
        return False
    conn.calm = DOUBTED
    if conn.state is State.LAST_ACK:  # it is over: nothing that would be learnt of the path is asked for any more
        conn.segments_in += 1
        conn.last_received_at = now
        conn.bytes_acked += snd.nxt - snd.una
        snd.una = snd.nxt
    else:
        conn.bytes_acked += snd.on_answer(now)
        _note(conn, wnd, tsval, now)
        rest(conn)
    if fin_acked(conn, now):
        conn.host.dirty(conn)
    return True


def _is_in_order(conn: "Connection", seq: int, ack: int, wnd: int, tsval: int) -> bool:
    """Whether a segment has the number that comes next, acknowledges all that was sent, leaves the window open, and is
    not older than the last (RFC 7323 §5.3)."""
    rcv = conn.rcv
    return (
        seq == rcv.nxt & MASK32
        and ack == conn.snd.nxt & MASK32
        and wnd > 0
        and conn.ts_ok
        and (tsval - rcv.ts_recent) & MASK32 < _HALF
    )


def _note(conn: "Connection", wnd: int, tsval: int, now: int) -> None:
    """What each segment in order tells."""
    rcv, snd = conn.rcv, conn.snd
    conn.segments_in += 1
    conn.last_received_at = now
    if rcv.nxt <= rcv.last_ack_sent:  # RFC 7323 §4.3 (2)
        rcv.ts_recent, rcv.ts_recent_at = tsval, now
    snd.wl1, snd.wl2 = rcv.nxt, snd.nxt
    window = wnd << snd.shift
    if window != snd.wnd:
        snd.offered(window)
    conn.probes = 0
    conn.soft_error = None
