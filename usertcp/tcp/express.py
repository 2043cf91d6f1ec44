"""The short way out: an established connection in which nothing is the matter sends text and acknowledges.

Nearly every turn of nearly every connection is such a one: no loss is being mended, no probe, reset or FIN is due,
there is nothing to say of ECN, duplicates or gaps, nobody paces, and the peer's window is open. Then what ``output``
asks step by step is known beforehand, and the same segments leave with the same traces by the straight-line code here.
Whatever else may be the matter, ``output.poll`` is called instead; :func:`is_plain` says which it is.

Nothing is decided here that ``output`` and ``sender`` would decide otherwise: ``tests/property/test_express.py`` plays
the same story with and without this file and compares every byte.
"""

from typing import TYPE_CHECKING, Final

from usertcp.tcp import control, message, opening, output
from usertcp.tcp.buffers import bytewise
from usertcp.tcp.chrono import BUSY
from usertcp.tcp.ecn import NOT_ECN
from usertcp.tcp.receiver import ACK_DELAYED, ACK_NONE, ACK_NOW
from usertcp.tcp.recovery import OPEN
from usertcp.tcp.ring import Buffer
from usertcp.tcp.rtt import TS_TICK
from usertcp.tcp.sender import NO_HEAD
from usertcp.tcp.state import ALONE, CALM, DOUBTED, ENDING, WRITABLE, State
from usertcp.tcp.timeouts import rearm, text_sent
from usertcp.tcp.timers import DELAYED_ACK
from usertcp.units import MASK32, NEVER
from usertcp.wire.ecn import NOT_ECT
from usertcp.wire.tcp import ACK, PSH, repeat

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection

CLOSES: Final = frozenset({State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK})  # our FIN is to leave, or has left


def poll(conn: "Connection", now: int, tx: output.Transmit, budget: int) -> bool:
    """As ``output.poll``: send what may be sent, at most ``budget`` (super-)segments. True: more waits."""
    if conn.calm <= DOUBTED and not calms(conn):
        if conn.syn_due and opening.is_usual(conn):
            return opening.send_syn(conn, now, tx)
        if conn.snd.fin_queued and _only_ends(conn, now):
            return control.send_fin(conn, now, tx)
        if conn.calm == ENDING:
            conn.calm = DOUBTED
        return output.poll(conn, now, tx, budget)
    snd, rcv = conn.snd, conn.rcv
    if snd.buffer.end > snd.nxt:
        if snd.nxt == snd.una:
            if snd.last_sent_at and now - snd.last_sent_at > snd.rtt.rto:  # a start from idleness
                conn.doubt()
                return output.poll(conn, now, tx, budget)
            if budget > 0 and message.fits(snd, snd.buffer.end - snd.nxt) and conn.ready & WRITABLE:
                more = not message.send(conn, now, tx)
                rearm(conn, now)
                return more
        elif conn.calm == ALONE:
            message.enter(conn)
        more = _send_text(conn, now, tx, budget)
        rearm(conn, now)
        if more:
            return True
    if rcv.ack == ACK_NOW:
        if conn.sack_ok or rcv.duplicates <= 1:
            return not _transmit_ack(conn, now, tx)
    elif _keeps_window(conn):
        if rcv.ack == ACK_NONE:
            return False
        assert rcv.ack == ACK_DELAYED
        if conn.timers.due[DELAYED_ACK] == NEVER:
            conn.timers.due[DELAYED_ACK] = now + conn.config.delayed_ack
        return False
    return not output.send_acks(conn, tx, now)


def owes_only(conn: "Connection") -> bool:
    """Whether all that ``conn`` may have to say is an acknowledgment, in which is nothing special."""
    snd = conn.snd
    return conn.calm == CALM and snd.una == snd.nxt == snd.buffer.end and (conn.sack_ok or conn.rcv.duplicates <= 1)


def acknowledge(conn: "Connection", now: int, tx: output.Transmit) -> bool:
    """:func:`poll` for such a ``conn``, if it is to acknowledge now. False: it is not, or the sink was full, and
    nothing has changed."""
    if conn.rcv.ack != ACK_NOW or not _transmit_ack(conn, now, tx):
        return False
    conn.chrono.rest(now)
    return True


def calms(conn: "Connection") -> bool:
    """Whether nothing is the matter with ``conn``, of which that was in doubt; then it is no longer."""
    if not is_plain(conn):
        return False
    message.calm_down(conn)
    return True


def is_plain(conn: "Connection") -> bool:
    """Whether nothing is the matter with ``conn``. That lasts until something general happens to it: ``conn.calm``."""
    return (
        conn.state is State.ESTABLISHED
        and conn.rcv.fin is None
        and not (conn.orphan or conn.snd.fin_queued)
        and _is_sound(conn)
    )


def _only_ends(conn: "Connection", now: int) -> bool:
    """Whether all that ``conn`` has to say is its FIN, nothing of it is on its way, and nothing is the matter but that
    one of the two ends has closed."""
    snd = conn.snd
    return (
        not snd.fin_sent
        and conn.state in CLOSES
        and snd.una == snd.nxt == snd.buffer.end
        and snd.sack_ok
        and snd.tlp.end < 0
        and now - snd.last_sent_at <= snd.rtt.rto
        and (conn.calm == ENDING or _is_sound(conn))
    )


def _is_sound(conn: "Connection") -> bool:
    """Whether no loss is mended, and nothing is to be said but text, its acknowledgment and a FIN."""
    snd, rcv = conn.snd, conn.rcv
    return (
        conn.ecn is NOT_ECN
        and conn.reset_due is None
        and snd.phase == OPEN
        and snd.una <= snd.nxt <= snd.una + snd.wnd > snd.una >= snd.up
        and rcv.buffer.top == rcv.buffer.nxt
        and not (
            conn.syn_due
            or conn.probe_due
            or conn.keepalive_due
            or conn.override
            or conn.config.cork
            or conn.tracer
            or conn.probes
            or conn.soft_error
            or rcv.dsacks
            or snd.board.lost
            or snd.dup_credit
            or snd.tlp.due
            or snd.cc.paced
            or snd.pacer.rate
        )
    )


def _send_text(conn: "Connection", now: int, tx: output.Transmit, budget: int) -> bool:
    """New text, as far as both windows and Nagle's rule let it go. True: more could go now.

    From one segment to the next only the number changes, and PSH: there is one header for all, and several bursts are
    handed over at a time, as a train.
    """
    snd, rcv = conn.snd, conn.rcv
    board, cc = snd.board, snd.cc
    payload = message.full_segment(conn)
    burst, nodelay, edge = conn.max_burst, conn.config.nodelay, rcv.edge
    una, end = snd.una, snd.buffer.end
    first = nxt = snd.nxt
    whole, allowed, right = burst - burst % payload, min(cc.cwnd, snd.flight), una + snd.wnd
    header = None
    cc.on_send(now, app_limited=snd.rate.app_limited > 0, flight=board.in_flight)
    while True:
        flight = board.in_flight
        available = end - nxt
        if payload <= burst < available and burst <= allowed - flight and burst <= right - nxt:
            spare = min(available - 1, allowed - flight, right - nxt) - burst
            length = whole * min(1 + spare // whole, conn.train, max(budget, 1))
        else:
            length = min(available, right - nxt, allowed - flight)
            if length < available:
                length = snd.next_new(payload, burst, nodelay)
            elif length < burst and snd.awaits_company(burst):
                length = 0
            elif length % payload and not nodelay and una < snd.small_end:
                length -= length % payload
        if length <= 0:
            snd.end_burst(payload, burst)
            return False
        if budget <= 0:
            return True
        flags = ACK | PSH if length == available else ACK
        if header is None:
            header = message.header(conn, now, nxt, flags)
        else:
            repeat(header, nxt & MASK32, flags)
        if not _hand_over(conn, now, tx, header, nxt, length, payload):
            if nxt == first:
                rcv.edge = edge
            return True
        nxt += length
        budget -= -(-length // burst)


def _hand_over(
    conn: "Connection", now: int, tx: output.Transmit, header: bytearray, nxt: int, length: int, payload: int
) -> bool:
    """Send ``length`` bytes of text from SND.NXT on, in segments of ``payload``. False: the sink was full, and nothing
    has changed."""
    snd, board = conn.snd, conn.snd.board
    views = snd.buffer.views(nxt, length)
    if not tx.send(conn, header, views, length, payload if length > payload else 0, NOT_ECT):
        return False
    rcv, end, flight = conn.rcv, nxt + length, board.in_flight
    rcv.quick = 0
    if rcv.ack or rcv.last_ack_sent != rcv.nxt or rcv.duplicates:
        message.acknowledged(conn)
    conn.segments_out += 1
    if length % payload:
        snd.small_end = end
    if nxt == snd.una:
        snd.unacked_since = now
    snd.rate.on_send(board.push(nxt, end, now, payload), flight + length, now, idle=not flight)
    snd.last_sent_at = now
    snd.nxt = end
    return True


def pour(conn: "Connection", data: Buffer, now: int, tx: output.Transmit) -> int:
    """Take ``data`` of the user, all of it, and send what is whole super-segments now, if nothing is the matter with
    ``conn`` and there is at least one, or all waits for company; the bytes taken. 0: it is not so, and nothing has
    changed. What else may go, if anything, is left to a turn, which ``conn`` asks for then.

    As of a stream nearly always, the rest waits for what the user writes next, as ``sender`` would have it wait: then
    there is nothing to be decided in a turn.
    """
    if conn.calm != CALM:
        return 0
    if type(data) is not bytes:
        data = bytewise(data)
    snd, burst, size = conn.snd, conn.max_burst, len(data)
    buffer, whole, nxt, flight = snd.buffer, snd.whole, snd.nxt, snd.board.in_flight
    available = buffer.end - nxt + size
    spare = min(available - 1, min(snd.cc.cwnd, snd.flight) - flight, snd.una + snd.wnd - nxt) - burst
    if (
        not whole
        or (spare < 0 and not (conn.rcv.ack == ACK_NONE and _waits(conn, available, flight)))
        or size >= buffer.free
        or not conn.ready & WRITABLE
        or (not flight and now - snd.last_sent_at > snd.rtt.rto)  # a start from idleness
    ):
        return 0
    try:
        taken = buffer.append(data, size)
    except OSError:  # the machine has no memory: who asks again will hear of it
        return 0
    if taken < size:
        conn.host.dirty(conn)
        return taken
    if not flight:  # who does not pace need not know of more
        snd.cc.on_send(now, app_limited=snd.rate.app_limited > 0, flight=0)
    if spare >= 0:
        length, edge = whole * min(1 + spare // whole, conn.train), conn.rcv.edge
        if not _hand_over(conn, now, tx, _header(conn, now, nxt), nxt, length, snd.lone):
            conn.rcv.edge, snd.head = edge, NO_HEAD
            conn.host.dirty(conn)
            return size
        text_sent(conn, now)
    if not is_done(conn, now):
        conn.host.dirty(conn)
    return size


def _header(conn: "Connection", now: int, nxt: int) -> bytearray:
    """``message.header`` of a stream: while nothing comes in, and the clock of timestamps stands, it differs from the
    last one in its number alone."""
    snd, rcv = conn.snd, conn.rcv
    buffer = rcv.buffer
    key = now // TS_TICK, rcv.nxt, buffer.read_seq, buffer.limit, rcv.ts_recent
    last, header = snd.head
    if key == last:
        repeat(header, nxt & MASK32, ACK)
        return header
    header = message.header(conn, now, nxt, ACK)
    if _keeps_window(conn):
        snd.head = key, header
    return header


def is_done(conn: "Connection", now: int) -> bool:
    """Whether ``conn``, in which nothing is the matter and of which something is on its way, has nothing to do in a
    turn: what the user has written is sent, or waits for company as :func:`_send_text` would have it wait. Then all is
    noted that such a turn would leave."""
    snd = conn.snd
    left, flight = snd.buffer.end - snd.nxt, snd.board.in_flight
    if not conn.ready & WRITABLE or not _keeps_window(conn):
        return False
    if left:
        if not _waits(conn, left, flight):
            return False
        snd.rate.on_user_idle(flight)
        snd.note_usage(flight, full=False)
    if conn.chrono.state != BUSY:
        conn.chrono.enter(BUSY, now)
    return True


def _waits(conn: "Connection", left: int, flight: int) -> bool:
    """Whether ``left`` bytes of text, all that is to be sent, wait for company as :func:`_send_text` has it,
    with ``flight`` bytes on their way."""
    snd, burst = conn.snd, conn.max_burst
    return (
        left < burst
        and left <= snd.una + snd.wnd - snd.nxt
        and left <= min(snd.cc.cwnd, snd.flight) - flight
        and snd.awaits_company(burst)
    )


def _keeps_window(conn: "Connection") -> bool:
    """Whether no window update is due."""
    rcv = conn.rcv
    return rcv.buffer.read_seq + rcv.buffer.limit - rcv.edge < rcv.mss <= rcv.buffer.limit // 2


def _transmit_ack(conn: "Connection", now: int, tx: output.Transmit) -> bool:
    """An acknowledgment and nothing else. False: the sink was full."""
    edge = conn.rcv.edge
    header = message.header(conn, now, conn.snd.nxt, ACK)
    if not tx.send(conn, header, output.NO_TEXT, 0, 0, NOT_ECT):
        conn.rcv.edge = edge
        return False
    message.acknowledged(conn)
    conn.segments_out += 1
    return True
