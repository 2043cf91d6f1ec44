"""An exchange: a message alone, the answer that its sender waits for, and the next message.

Who asks and answers in turn keeps the other end waiting from when the answer comes until the next message leaves. So
what the answer has to be is found out while it is on its way (:func:`expect`); when it comes, its text is put where the
reader waits (:func:`take`), and the next message leaves (:func:`reply`). What else an answer
leaves behind follows from its numbers and its time, and is made up then, or by :func:`settle` if anything else happens
first: ``Connection.calm`` is ANSWERED until then. Nothing is decided that is not as in ``predicted`` and ``message``.
"""

from typing import TYPE_CHECKING, Final

from usertcp.tcp.buffers import SMALL
from usertcp.tcp.message import answered, left
from usertcp.tcp.receiver import ACK_NONE
from usertcp.tcp.ring import Buffer
from usertcp.tcp.rtt import TS_TICK
from usertcp.tcp.state import ALONE, ANSWERED, CONNECTED, WRITABLE
from usertcp.tcp.timers import DELAYED_ACK
from usertcp.units import MASK32
from usertcp.wire.ecn import NOT_ECT
from usertcp.wire.tcp import ACK, PSH, stamped_header

if TYPE_CHECKING:
    from usertcp.tcp.connection import Connection
    from usertcp.tcp.output import Transmit

_HALF: Final = 1 << 31
_OPEN: Final = CONNECTED | WRITABLE  # nothing waits to be read, or to be told


def expect(conn: "Connection") -> int:
    """How many bytes the answer to the message alone of ``conn`` may have for :func:`take`, if its reader waits for it
    with memory of his own; 0: none."""
    rcv, snd = conn.rcv, conn.snd
    buffer, nxt, offered, mss, limit = rcv.buffer, rcv.nxt, rcv.edge - rcv.nxt, rcv.mss, rcv.buffer.limit
    if (
        conn.calm != ALONE
        or conn.ready != _OPEN
        or snd.buffer.end != snd.nxt
        or snd.buffer.alone is None
        or rcv.quick
        or rcv.ack != ACK_NONE
        or rcv.last_ack_sent != nxt
        or buffer.read_seq != nxt
        or buffer.landed
    ):
        return 0
    if mss > limit // 2 or offered + (1 << rcv.shift) > limit + limit // 16:
        return 0
    measured, updated = rcv.tuner.bar - nxt, mss - 1 - limit + offered  # beyond which there is something to be done
    return min(buffer.wanted, mss, offered, measured, updated)


def take(conn: "Connection", text: memoryview, tsval: int, now: int) -> bool:
    """The answer has come, with the numbers and the window that were expected and no more ``text``; it is the first
    segment since. False: it is not to be taken like this, for what the user has done meanwhile, and nothing has
    changed."""
    rcv, snd = conn.rcv, conn.snd
    buffer = rcv.buffer
    if (
        conn.calm != ALONE
        or snd.buffer.end != snd.nxt
        or (tsval - rcv.ts_recent) & MASK32 >= _HALF
        or buffer.memory.pressed
    ):
        return False
    size = len(text)
    buffer.target[:size] = text
    buffer.landed = size
    buffer.wanted -= size
    buffer.read_seq = buffer.nxt = buffer.top = rcv.nxt = rcv.nxt + size
    rcv.ts_recent, rcv.ts_recent_at = tsval, now
    conn.last_received_at = now
    conn.calm = ANSWERED
    return True


def reply(conn: "Connection", data: Buffer, now: int, tx: "Transmit") -> int:
    """Take ``data`` of the user, who has got the answer, and send it as the next message; its bytes. 0: nothing has
    changed."""
    snd, rcv = conn.snd, conn.rcv
    length, buffer, alone = len(data), snd.buffer, snd.buffer.alone
    if (
        conn.calm != ANSWERED
        or type(data) is not bytes
        or not 0 < length <= SMALL
        or length > snd.lone
        or length > snd.wnd
        or 2 * length > snd.cc.cwnd
        or length >= buffer.limit
        or now - snd.last_sent_at > snd.rtt.least
        or alone is None
        or rcv.buffer.memory.pressed
        or not rcv.buffer.memory.eases(length - len(alone))
    ):
        return 0
    nxt = rcv.nxt
    field = -(nxt - rcv.edge >> rcv.shift)  # what was offered, rounded up (``Receiver.window_field``)
    tsval = now // TS_TICK + conn.ts_offset & MASK32
    numbers = conn.sport, conn.dport, snd.nxt & MASK32, nxt & MASK32, ACK | PSH, field, tsval, rcv.ts_recent
    if not tx.send(conn, stamped_header(*numbers), [memoryview(data)], length, 0, NOT_ECT):
        return 0
    rcv.edge = nxt + (field << rcv.shift)
    _write_down(conn)
    _ = buffer.keep(data)
    left(conn, now)
    return length


def settle(conn: "Connection") -> None:
    """Write down the answer: no message has followed it yet."""
    rcv = conn.rcv
    _write_down(conn)
    rcv.owe(rcv.nxt - rcv.last_ack_sent)
    conn.timers.due[DELAYED_ACK] = conn.last_received_at + conn.config.delayed_ack


def _write_down(conn: "Connection") -> None:
    """What the answer leaves behind, but for the acknowledgment that is owed."""
    snd, seq = conn.snd, conn.rcv.last_ack_sent
    conn.segments_in += 1
    conn.bytes_received += conn.rcv.nxt - seq
    snd.wl1, snd.wl2 = seq, snd.nxt
    answered(conn, conn.last_received_at)
