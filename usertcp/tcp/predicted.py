"""Header prediction: the segment that a connection expects, taken without asking what else it might be.

In a transfer nearly all that arrives is one of two kinds: the next text in order, which acknowledges nothing new or
what we have just sent, and the acknowledgment, in order, of what we sent while all was well. For these most questions
of ``arrives`` have known answers (Van Jacobson's header prediction, 1990)::

    first, PAWS   SEG.SEQ = RCV.NXT, inside the window, the timestamp not older than the last
    second..fourth, sixth, eighth   neither RST, SYN, URG nor FIN is set: the caller has looked
    fifth         ESTABLISHED; nothing lost, SACKed, sent again or doubted; the peer's window is open
    seventh       no gap to be filled, no FIN to look for, and a user who reads

What remains is done by the same parts that do it for any other segment. Whatever does not fit is left, untouched, to
``arrives``: every answer False here means that nothing has changed.
"""

from typing import TYPE_CHECKING, Final

from usertcp.tcp.arrives import after_ack, measure, take_text
from usertcp.tcp.ecn import NOT_ECN
from usertcp.tcp.express import is_done
from usertcp.tcp.message import answered, enter
from usertcp.tcp.receiver import ACK_DELAYED, ACK_NOW
from usertcp.tcp.state import ALONE, CALM, CAN_SEND, DOUBTED, READABLE, WRITABLE, State
from usertcp.tcp.timeouts import rest, text_acked
from usertcp.tcp.timers import DELAYED_ACK
from usertcp.units import KIB, MASK32, NEVER

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection

STRETCH: Final = 512 * KIB  # bytes that are acknowledged at once, at most, while more of a stream comes
_HALF: Final = 1 << 31
_ESTABLISHED: Final = State.ESTABLISHED


def take_predicted(
    conn: "Connection",
    seq: int,
    ack: int,
    wnd: int,
    tsval: int,
    tsecr: int,
    text: memoryview,
    gso_size: int,
    now: int,
) -> bool:
    """Take a segment of which all but its numbers is known: its checksum is right, it has ACK and at most PSH, the
    timestamps and no other option, and no mark of congestion. Numbers as on the wire. False: it is not what was
    expected, and nothing has changed. True: ``conn`` wants its turn, unless :func:`settle` says that it need not.
    """
    rcv, snd = conn.rcv, conn.snd
    nxt, size, window = rcv.nxt, len(text), wnd << snd.shift
    if seq != nxt & MASK32 or nxt + size > rcv.edge or (tsval - rcv.ts_recent) & MASK32 >= _HALF:
        return False
    acked = (ack - snd.una) & MASK32
    if not _is_expected(conn, acked, window, size):
        return False
    conn.segments_in += 1
    conn.last_received_at = now
    if nxt <= rcv.last_ack_sent:  # RFC 7323 §4.3 (2)
        rcv.ts_recent = tsval
        rcv.ts_recent_at = now
    _take_ack(conn, acked, window, now)
    conn.probes = 0
    conn.soft_error = None
    if size:
        take_text(conn, nxt, text, gso_size or size, tsecr, now)
    return True


def take_message(
    conn: "Connection", seq: int, ack: int, wnd: int, tsval: int, tsecr: int, text: memoryview, wake: int, now: int
) -> bool:
    """:func:`take_predicted` and :func:`settle` in one for little ``text``, for which nothing was due before: the
    answer to the message alone that is on its way, or a message while nothing is. False: it is neither, and nothing has
    changed. True: all that its turn would do is done, or ``conn`` has said that it wants one. ``wake``: when it has
    one in any case (ns).
    """
    rcv, snd = conn.rcv, conn.snd
    nxt, size, window = rcv.nxt, len(text), wnd << snd.shift
    if (
        seq != nxt & MASK32
        or ack != snd.nxt & MASK32
        or not window
        or snd.buffer.end != snd.nxt
        or nxt + size > rcv.edge
        or size > rcv.mss
        or (tsval - rcv.ts_recent) & MASK32 >= _HALF
        or rcv.quick
        or not conn.ready & WRITABLE
    ):
        return False
    if conn.calm == ALONE:
        answered(conn, now)
    elif not size or snd.una != snd.nxt or not conn.ts_ok or snd.wl1 > nxt:
        return False
    conn.segments_in += 1
    conn.last_received_at = now
    if nxt <= rcv.last_ack_sent:  # RFC 7323 §4.3 (2)
        rcv.ts_recent, rcv.ts_recent_at = tsval, now
    snd.wl1, snd.wl2 = nxt, snd.nxt
    if window != snd.wnd:
        snd.offered(window)
    if not size:
        return True
    take_text(conn, nxt, text, size, tsecr, now)
    if not (rcv.ack == ACK_DELAYED and _delays(conn, wake, now)):
        conn.host.dirty(conn)
    return True


def take_answer(conn: "Connection", seq: int, ack: int, wnd: int, tsval: int, wake: int, now: int) -> bool:
    """:func:`take_predicted`, and the turn that follows, in one for a segment without text that acknowledges a part of
    a stream, or all that was sent of it while more waits; ``conn`` being one in which nothing is the matter and for
    which nothing was due. False: it is not that, and nothing has changed. True: as of :func:`take_message`."""
    rcv, snd = conn.rcv, conn.snd
    acked, window = ack - snd.una & MASK32, wnd << snd.shift
    if (
        conn.calm != CALM
        or seq != rcv.nxt & MASK32
        or not 0 < acked <= snd.nxt - snd.una
        or snd.una + acked + window < snd.nxt
        or (acked == snd.nxt - snd.una and (snd.buffer.end == snd.nxt or not window))
        or (tsval - rcv.ts_recent) & MASK32 >= _HALF
        or not conn.ready & WRITABLE
        or not snd.lone
        or not snd.expects(acked)
    ):
        return False
    conn.segments_in += 1
    conn.last_received_at = now
    if rcv.nxt <= rcv.last_ack_sent:  # RFC 7323 §4.3 (2)
        rcv.ts_recent, rcv.ts_recent_at = tsval, now
    snd.wl1, snd.wl2 = rcv.nxt, snd.una + acked
    snd.wnd = window
    if window > snd.max_wnd:
        snd.max_wnd = window
    snd.on_expected_ack(acked, now)
    if snd.una == snd.nxt:
        after_ack(conn, acked, now)
        conn.host.dirty(conn)
        return True
    conn.bytes_acked += acked
    text_acked(conn, now)
    if not is_done(conn, now) or min(conn.timers.due) < wake:
        conn.host.dirty(conn)
    return True


def _delays(conn: "Connection", wake: int, now: int) -> bool:
    """Whether no window update is due, and the ACK of what came waits for company. False: nothing has changed."""
    rcv, due = conn.rcv, conn.timers.due
    buffer = rcv.buffer
    if not buffer.read_seq + buffer.limit - rcv.edge < rcv.mss <= buffer.limit // 2:
        return False
    if due[DELAYED_ACK] == NEVER:
        _delay(conn, wake, now)
    return True


def _delay(conn: "Connection", wake: int, now: int) -> None:
    """The ACK that is owed waits for company."""
    at = now + conn.config.delayed_ack
    conn.timers.due[DELAYED_ACK] = at
    if at < wake:
        conn.host.wake(conn, at)


def _is_expected(conn: "Connection", acked: int, window: int, size: int) -> bool:
    """Whether nothing is the matter with ``conn``, and the next ``size`` bytes, or the acknowledgment of ``acked``
    bytes, are what it expects."""
    if conn.calm == ALONE:
        enter(conn)
    rcv, snd = conn.rcv, conn.snd
    if (
        conn.state is not _ESTABLISHED
        or rcv.buffer.top != rcv.nxt
        or not conn.ts_ok
        or conn.orphan
        or rcv.fin is not None
        or conn.tracer is not None
        or conn.ecn.accurate
    ):
        return False
    if acked:
        return window > 0 and snd.expects(acked)
    return size > 0 and window == snd.wnd


def _take_ack(conn: "Connection", acked: int, window: int, now: int) -> None:
    """The fifth check, for an expected segment."""
    rcv, snd = conn.rcv, conn.snd
    if acked or snd.wl1 <= rcv.nxt:
        snd.wl1, snd.wl2 = rcv.nxt, snd.una + acked
    if acked:
        if snd.una + acked + window < snd.nxt:  # the peer has taken back some of it
            conn.calm = DOUBTED
        if window != snd.wnd:
            snd.offered(window)
        snd.on_expected_ack(acked, now)
    if acked and conn.ready & WRITABLE and snd.una == snd.nxt == snd.buffer.end:
        conn.bytes_acked += acked
        rest(conn)
        conn.chrono.rest(now)
    elif acked or not conn.ready & WRITABLE:
        after_ack(conn, acked, now)


def settle(conn: "Connection", wake: int, now: int) -> bool:
    """Whether ``conn``, for which nothing was due before the segment just taken by :func:`take_predicted`, has nothing
    to say to it at once: a request of which the reply is not written yet, or the ACK of the last reply. Then all that
    its turn would do is done: the ACK waits for company. False: let it have its turn; nothing has changed. ``wake``:
    when it has its turn in any case (ns).
    """
    snd, rcv = conn.snd, conn.rcv
    buffer = rcv.buffer
    if (
        rcv.ack == ACK_NOW
        or snd.una != snd.nxt
        or snd.nxt != snd.buffer.end
        or not buffer.read_seq + buffer.limit - rcv.edge < rcv.mss <= buffer.limit // 2  # a window update may be due
        or conn.ecn is not NOT_ECN
    ):
        return False
    if rcv.ack == ACK_DELAYED and conn.timers.due[DELAYED_ACK] == NEVER:
        _delay(conn, wake, now)
    conn.chrono.rest(now)
    return True


def may_stretch(conn: "Connection") -> bool:
    """Whether the acknowledgment of what the reader of ``conn`` has taken may wait until he takes more: not much is
    owed, nor much of the window used up (a stretch ACK, as of a receiver that merges segments)."""
    rcv = conn.rcv
    return rcv.since_ack < STRETCH and rcv.since_ack < rcv.edge - rcv.nxt and not rcv.quick


def may_ride(conn: "Connection") -> bool:
    """Whether all that ``conn`` has to say is the ACK of the peer's SYN,ACK, FIN or first request, which may have
    company soon: the user's own request, FIN or answer (as on Linux, which delays them where an answer can be
    expected)."""
    snd, rcv = conn.snd, conn.rcv
    return (
        (rcv.nxt == rcv.irs + 1 or rcv.fin_taken or _is_request(conn))
        and conn.state in CAN_SEND
        and snd.una == snd.nxt == snd.buffer.end
        and conn.reset_due is None
        and not (rcv.dsacks or rcv.duplicates or snd.fin_queued)
        and conn.ecn is NOT_ECN
    )


def _is_request(conn: "Connection") -> bool:
    """Whether what is to be acknowledged at once is a message, the first of the connection."""
    rcv = conn.rcv
    return (
        rcv.ack == ACK_NOW
        and rcv.last_ack_sent == rcv.irs + 1
        and rcv.nxt == rcv.buffer.top
        and rcv.since_ack < rcv.mss
    )


def may_skip(conn: "Connection", seq: int, ack: int, tsval: int) -> bool:
    """Whether an ACK without text and with no option but the timestamps is one that was expected, after which there is
    more to be acknowledged: then the next that acknowledges more makes it superfluous. Numbers as on the wire."""
    rcv, snd = conn.rcv, conn.snd
    acked = ack - snd.una & MASK32
    return (
        0 < acked < snd.nxt - snd.una
        and seq == rcv.nxt & MASK32
        and conn.state is _ESTABLISHED
        and rcv.buffer.top == rcv.nxt
        and conn.ts_ok
        and (tsval - rcv.ts_recent) & MASK32 < _HALF
        and conn.tracer is None
        and not conn.ecn.accurate
        and snd.expects(acked)
    )


def room_in_burst(conn: "Connection") -> int:
    """Bytes of text that may follow the segment that was last taken by :func:`take_predicted`, in segments in which
    nothing else differs but newer timestamps: :func:`take_burst` takes them. 0: the next is to be looked at.

    What was found out about that one holds for them, if nothing else has come for ``conn`` since (the caller knows): as
    long as no writer waits.
    """
    rcv = conn.rcv
    if rcv.quick or conn.state is not _ESTABLISHED or not conn.ready & WRITABLE:
        return 0
    return rcv.edge - rcv.nxt


def take_burst(
    conn: "Connection", size: int, last: int, segments: int, tsval: int, tsecr: int, now: int, *, read: bool
) -> None:
    """``size`` bytes of text, no more than :func:`room_in_burst` says and ``last`` of them in the last segment, have
    come, with the same timestamps, as on the wire. No segment but the last reaches beyond where the round trip is
    measured. The text lies where ``conn.rcv.buffer.place`` said, or with ``read`` where the user wants it, who is
    then to see to the turn of ``conn``.
    """
    rcv, snd = conn.rcv, conn.snd
    nxt, buffer, tuner = rcv.nxt, rcv.buffer, rcv.tuner
    if nxt <= rcv.last_ack_sent:  # RFC 7323 §4.3 (2): an ACK may have been sent since the last segment
        rcv.ts_recent, rcv.ts_recent_at = tsval, now
    if read:
        buffer.read_seq = buffer.nxt = buffer.top = nxt + size
    else:
        buffer.filled(size)
    rcv.nxt = nxt = nxt + size
    if snd.wl1 <= nxt - last:
        snd.wl1, snd.wl2 = nxt - last, snd.una
    rcv.owe(size)
    conn.bytes_received += size
    conn.segments_in += segments
    conn.last_received_at = now
    conn.probes = 0
    conn.soft_error = None
    if nxt > tuner.bar and now >= tuner.due:
        measure(conn, tsecr, now)
    if not read:
        conn.signal(READABLE)
        conn.host.dirty(conn)
